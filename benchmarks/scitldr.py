"""A summarizer from random weights on SciTLDR: one sentence on a paper from its abstract.

    python benchmarks/scitldr.py [--minutes=40] [--nopeer]

ROUGE F1 on the dev set after so many minutes of training, beside PyTorch and beside the first
sentence of each source. The 1,992 papers are too few to learn to summarize from nothing: what is
compared is the same training on both sides.
"""

import gzip
import json

from absl import app
from common import DATA
from pairs import SIDE, run

from lingxi.tasks import Summarizer
from lingxi.training.evaluation import ROUGE, text_scores


def main(_):
    train, held_out = papers("train"), papers("dev")
    if SIDE.value is None:
        first = [source[0] for source in held_out[0]]
        print("first sentence:", text_scores(first, held_out[1], ROUGE))
    train, held_out = (
        ([" ".join(source) for source in sources], targets)
        for sources, targets in (train, held_out)
    )
    options = {"max_tokens": 64, "no_repeat_ngram": 3}
    run(Summarizer, train, held_out, ROUGE, vocab_size=8000, max_length=384, **options)


def papers(split):
    """Lists of sentences, and the first summary of each."""
    lines = gzip.decompress((DATA / "scitldr" / f"{split}.jsonl.gz").read_bytes()).splitlines()
    rows = [json.loads(line) for line in lines]
    return [row["source"] for row in rows], [row["target"][0] for row in rows]


if __name__ == "__main__":
    app.run(main)
