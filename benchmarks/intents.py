"""What customers of a bank want, of 77 intents: MiniLM's accuracy, beside `transformers`.

    python benchmarks/intents.py [--epochs=5] [--rate=2e-4] [--nopeer]

A tenth of banking77's training questions, drawn with a fixed seed, is held out.
"""

import csv
import random

from absl import app, flags
from classification import compare
from common import DATA, describe_machine
from peer import PRECISION, set_precision

from lingxi.tasks import TextClassifier

EPOCHS = flags.DEFINE_integer("epochs", 5, "of the training")
RATE = flags.DEFINE_float("rate", 2e-4, "peak learning rate")
PEER = flags.DEFINE_boolean("peer", True, "train the PyTorch twin too")
SEED = 1


def main(_):
    set_precision()
    print(describe_machine(), PRECISION.value, flush=True)
    with open(DATA / "banking77" / "train.csv", encoding="utf-8", newline="") as file:
        rows = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    random.Random(SEED).shuffle(rows)
    count = len(rows) // 10
    labels = sorted({label for _, label in rows})
    compare(
        lambda: TextClassifier.from_preset("minilm_l6_en_uncased", labels=labels, max_length=64),
        rows[count:],
        rows[:count],
        EPOCHS.value,
        RATE.value,
        PEER.value,
        SEED,
    )


if __name__ == "__main__":
    app.run(main)
