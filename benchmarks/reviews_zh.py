"""Chinese reviews of meals, good or bad: an encoder of characters from random weights.

    python benchmarks/reviews_zh.py [--epochs=8] [--rate=5e-4] [--nopeer]

Its accuracy on waimai's dev set, beside the same model in `transformers` on PyTorch.
"""

import csv

from absl import app, flags
from characters import encoder
from classification import compare
from common import DATA, describe_machine
from peer import PRECISION, set_precision

from lingxi.tasks import TextClassifier

EPOCHS = flags.DEFINE_integer("epochs", 8, "of the training")
RATE = flags.DEFINE_float("rate", 5e-4, "peak learning rate")
PEER = flags.DEFINE_boolean("peer", True, "train the PyTorch twin too")
LABELS = ["bad", "good"]
SEED = 1


def main(_):
    set_precision()
    print(describe_machine(), PRECISION.value, flush=True)
    train, dev = reviews("train"), reviews("dev")
    compare(
        lambda: TextClassifier(*encoder([text for text, _ in train], pooler=True), LABELS),
        train,
        dev,
        EPOCHS.value,
        RATE.value,
        PEER.value,
        SEED,
    )


def reviews(split):
    """`(text, label)`s."""
    with open(DATA / "waimai" / f"{split}.csv", encoding="utf-8", newline="") as file:
        return [(row["review"], LABELS[int(row["label"])]) for row in csv.DictReader(file)]


if __name__ == "__main__":
    app.run(main)
