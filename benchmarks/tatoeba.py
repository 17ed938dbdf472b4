"""A Transformer from random weights on Tatoeba, Chinese to English, beside PyTorch.

    python benchmarks/tatoeba.py [--minutes=40] [--nopeer]

sacreBLEU (13a, cased, detokenized) and chrF on the dev set after so many minutes of training.
"""

from absl import app
from common import DATA
from pairs import run

from lingxi.tasks import Translator
from lingxi.tasks.pair_data import read_pairs


def main(_):
    train, held_out = (
        read_pairs(DATA / "tatoeba_zh_en" / f"{split}.tsv")[::-1] for split in ("train", "dev")
    )
    run(Translator, train, held_out, ("bleu", "chrf"), vocab_size=10000, max_tokens=64)


if __name__ == "__main__":
    app.run(main)
