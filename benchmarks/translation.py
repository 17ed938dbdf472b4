"""A Transformer of base size translates real captions, beam 4: texts a second, side by side.

    python benchmarks/translation.py [--texts=16] [--beams=4]

Same random weights (Marian's architecture, 6 + 6 blocks of 512), same captions of Multi30k, 32
tokens for each: `transformers` on PyTorch and CTranslate2 beside lingxi's SavedModel, raw text in
and out of it. Each side is a process of its own; their calls take turns.
"""

import gzip
import io
import json
import os
import pathlib
import tempfile

import numpy as np
from absl import app, flags
from common import (
    DATA,
    bandwidth,
    call_by_call,
    check_installed,
    describe_machine,
    take_turns,
)

PEERS = ["transformers", "ctranslate2 float32", "ctranslate2 int8"]
SIDE = flags.DEFINE_enum("side", None, [*PEERS, "saved_model"], "internal: time this side")
FOLDER = flags.DEFINE_string("folder", None, "internal: of the exported models")
TEXTS = flags.DEFINE_integer("texts", 16, "captions at once")
BEAMS = flags.DEFINE_integer("beams", 4, "hypotheses of each")
ROUNDS = flags.DEFINE_integer("rounds", 5, "calls of each side")
TOKENS, VOCAB_SIZE = 32, 16000


def main(_):
    if SIDE.value:
        call = CALLS[SIDE.value.split()[0]]()
        (pathlib.Path(FOLDER.value) / f"{SIDE.value}.json").write_text(json.dumps(call()))
        take_turns(call)
        return
    check_installed("ctranslate2")
    print(f"{describe_machine()}: {TEXTS.value} captions, beam {BEAMS.value}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        step = export(folder)
        arguments = f"--folder={folder}", f"--texts={TEXTS.value}", f"--beams={BEAMS.value}"
        sides = [*PEERS, "saved_model"]
        costs = call_by_call(__file__, sides, *arguments, rounds=ROUNDS.value)
        made = {
            side: json.loads((pathlib.Path(folder) / f"{side}.json").read_text()) for side in sides
        }
    peer = costs["transformers"].seconds
    for side, cost in costs.items():
        pairs = zip(made[side], made["transformers"], strict=True)
        same = np.mean([a == b for a, b in pairs])
        read = step * TOKENS / cost.seconds / 1e9 / (4 if "int8" in side else 1)
        print(
            f"{side:20} {TEXTS.value / cost.seconds:6.2f} texts/s, {peer / cost.seconds:.2f} of "
            f"transformers, reads at least {read:.1f} GB/s of weights, {same:.0%} equal texts"
        )
    print(f"memory: {bandwidth():.1f} GB/s (a matrix times a vector)")


def export(folder):
    """The same weights for all sides, into `folder`; bytes of those that every step reads."""
    import keras

    import lingxi
    from lingxi.tasks import Translator
    from lingxi.tasks.sequence_to_sequence import config_for
    from lingxi.text import SentencePieceTokenizer
    from lingxi.zoo import Transformer, TransformerConfig

    keras.utils.set_random_seed(1)
    folder = pathlib.Path(folder)
    tokenizer = SentencePieceTokenizer(learned_vocabulary(), max_length=64)
    config = TransformerConfig(model_type="marian", positions="halves", bos_id=None)
    decoding = {"beams": BEAMS.value, "max_tokens": TOKENS, "min_tokens": TOKENS}
    task = Translator(Transformer(config_for(config, tokenizer)), tokenizer, decoding=decoding)
    task.save_preset(folder / "transformers")
    lingxi.export.saved_model(task, folder / "saved_model", examples=captions()[:2])

    import ctranslate2

    for precision in ("float32", "int8"):
        converter = ctranslate2.converters.TransformersConverter(str(folder / "transformers"))
        converter.convert(str(folder / f"ctranslate2 {precision}"), quantization=precision)
    config = task.backbone.config
    block = 6 * config.hidden_dim**2 + 2 * config.hidden_dim * config.intermediate_dim
    head = config.vocab_size * config.hidden_dim
    return 4 * (config.num_decoder_layers * block + head)


def learned_vocabulary():
    """A SentencePiece model whose "<pad>" is the last piece, as CTranslate2 expects of Marian."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*sentences("train", "en"), *sentences("train", "de")]),
        model_writer=model,
        vocab_size=VOCAB_SIZE,
        eos_id=0,
        unk_id=1,
        pad_id=VOCAB_SIZE - 1,
        bos_id=-1,
        minloglevel=2,
    )
    return model.getvalue()


def sentences(split, language):
    content = (DATA / "multi30k" / f"{split}.{language}.gz").read_bytes()
    return gzip.decompress(content).decode().splitlines()


def captions():
    return sentences("test_2016", "en")[: TEXTS.value]


def transformers_call():
    import torch
    import transformers

    path = os.path.join(FOLDER.value, "transformers")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(path).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    texts = captions()

    def call():
        inputs = tokenizer(texts, return_tensors="pt", padding=True)
        with torch.inference_mode():
            made = model.generate(**inputs)  # as its generation_config.json says
        return tokenizer.batch_decode(made, skip_special_tokens=True)

    return call


def ctranslate2_call():
    import ctranslate2
    import transformers

    folder = pathlib.Path(FOLDER.value)
    translator = ctranslate2.Translator(str(folder / SIDE.value), intra_threads=os.cpu_count())
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "transformers")
    texts = captions()
    options = {"beam_size": BEAMS.value, "max_decoding_length": TOKENS}

    def call():
        tokens = [tokenizer.convert_ids_to_tokens(tokenizer.encode(text)) for text in texts]
        made = translator.translate_batch(tokens, min_decoding_length=TOKENS, **options)
        ids = [tokenizer.convert_tokens_to_ids(result.hypotheses[0]) for result in made]
        return tokenizer.batch_decode(ids, skip_special_tokens=True)

    return call


def saved_model_call():
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers the tokenizer's operations

    served = tf.saved_model.load(os.path.join(FOLDER.value, "saved_model", "1"))
    texts = tf.constant(captions())

    def call():
        made = served.signatures["serving_default"](text=texts)["text"]
        return [text.decode() for text in made.numpy()[:, 0]]

    return call


CALLS = {
    "transformers": transformers_call,
    "ctranslate2": ctranslate2_call,
    "saved_model": saved_model_call,
}

if __name__ == "__main__":
    app.run(main)
