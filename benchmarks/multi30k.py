"""A Transformer from random weights on Multi30k, English to German, beside PyTorch.

    python benchmarks/multi30k.py [--minutes=40] [--nopeer]

sacreBLEU (13a, cased, detokenized) on test_2016 after so many minutes of training.
"""

from absl import app
from common import DATA
from pairs import run

from lingxi.tasks import Translator
from lingxi.tasks.pair_data import read_pairs


def main(_):
    train, held_out = (
        read_pairs(*(DATA / "multi30k" / f"{split}.{language}.gz" for language in ("en", "de")))
        for split in ("train", "test_2016")
    )
    run(Translator, train, held_out, ("bleu", "chrf"), vocab_size=4000, max_tokens=64)


if __name__ == "__main__":
    app.run(main)
