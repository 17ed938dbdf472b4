"""Tokenized lines per second on SST-2, in batches of 256, beside `transformers`.

WordPiece of MiniLM, byte-level BPE of GPT-2 and SentencePiece of T5; transformers needs the library
sentencepiece to read T5's, which is left out without it.
"""

import importlib.util
import statistics
import tempfile

from common import DATA, describe_machine, sst2, timed
from transformers import AutoTokenizer

from lingxi.text import SentencePieceTokenizer, from_directory
from lingxi.zoo import preset

BATCH = 256
MAX_LENGTH = 128


def tokenizers():
    """Pairs of name and our tokenizer."""
    yield "wordpiece", from_directory(preset.resolve("minilm_l6_en_uncased"), MAX_LENGTH)
    yield "gpt2", from_directory(DATA / "vocab/gpt2", MAX_LENGTH)
    if importlib.util.find_spec("sentencepiece"):
        yield "t5", SentencePieceTokenizer(DATA / "vocab/t5/spiece.model", max_length=MAX_LENGTH)


def main():
    texts, _ = sst2("train")
    batches = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
    print(describe_machine())
    print(f"{'':14}{'lingxi':>12}{'transformers':>14}  lines/s")
    for name, ours in tokenizers():
        with tempfile.TemporaryDirectory() as directory:
            ours.save(directory)
            theirs = AutoTokenizer.from_pretrained(directory)
        theirs.pad_token = theirs.pad_token or theirs.eos_token
        options = dict(max_length=MAX_LENGTH, truncation=True, padding=True, return_tensors="np")
        calls = (
            lambda ours=ours: [ours(batch) for batch in batches],
            lambda theirs=theirs, options=options: [theirs(batch, **options) for batch in batches],
        )
        speeds = [len(texts) / statistics.median(timed(call, 5)) for call in calls]
        print(f"{name:14}{speeds[0]:12.0f}{speeds[1]:14.0f}  ratio {speeds[0] / speeds[1]:.1f}")


if __name__ == "__main__":
    main()
