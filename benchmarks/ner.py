"""Named entities in real texts, beside the same model in `transformers` on PyTorch.

    python benchmarks/ner.py --data=wnut17|msra_ner|uner_zh [--seeds=3] [--precision=bfloat16]

WNUT-17: MiniLM. The Chinese sets: an encoder of characters from random weights, with and without a
CRF. Precision, recall and F1 of whole entities on dev, and the mean F1 of several seeds, each of
which means other weights at the start, another order and another dropout on all sides.
"""

import collections
import statistics
import time

import numpy as np
from absl import app, flags
from characters import encoder
from common import DATA as FOLDER
from common import describe_machine
from peer import PRECISION, peer_logits, set_precision

from lingxi.tasks import TokenClassifier
from lingxi.tasks.tagged_data import read_tagged
from lingxi.training import IGNORED, EntityScores

FILES = {
    "wnut17": ("wnut17/train.conll", "wnut17/dev.conll"),
    "msra_ner": ("msra_ner/train.conll", "msra_ner/dev.conll"),
    "uner_zh": ("uner_zh/train.iob2", "uner_zh/dev.iob2"),
}
DATA = flags.DEFINE_enum("data", "wnut17", list(FILES), "the data set")
EPOCHS = flags.DEFINE_integer("epochs", None, "by default 4, of MSRA 6, of UNER 8")
RATE = flags.DEFINE_float("rate", None, "peak learning rate, by default 1e-4, Chinese 1e-3")
PEER = flags.DEFINE_boolean("peer", True, "train the PyTorch twin too")
SEEDS = flags.DEFINE_integer("seeds", 1, "trainings of each side", lower_bound=1)
BATCH = 16
DEFAULT_EPOCHS = {"wnut17": 4, "msra_ner": 6, "uner_zh": 8}


def main(_):
    set_precision()
    print(describe_machine(), DATA.value, PRECISION.value, flush=True)
    train, dev = (read_tagged(FOLDER / name) for name in FILES[DATA.value])
    types = sorted({kind for example in train for _, _, kind in example.entities})
    is_english = DATA.value == "wnut17"
    epochs = EPOCHS.value or DEFAULT_EPOCHS[DATA.value]
    rate = RATE.value or (1e-4 if is_english else 1e-3)

    import keras

    f1 = collections.defaultdict(list)  # of each side

    def report(side, scores, seconds):
        numbers = ", ".join(f"{name} {scores[name]:.4f}" for name in ("precision", "recall", "f1"))
        print(f"{side:18} {numbers}, trained in {seconds:.0f} s", flush=True)
        f1[side].append(scores["f1"])

    for seed in range(1, SEEDS.value + 1):
        for crf in (False,) if is_english else (False, True):
            keras.utils.set_random_seed(seed)
            task = english(types) if is_english else chinese(types, train, crf)
            batches = task._raw_batches(train, (), BATCH, "shuffled", seed=seed)
            held_out = task._raw_batches(dev, (), BATCH, "sorted")
            if not crf and PEER.value:
                logits, seconds = peer_logits(task, batches, held_out, epochs, rate, seed)
                report("transformers", scores_of(task, held_out, logits), seconds)
            options = {"learning_rate": rate, "seed": seed, "verbose": 2}
            start = time.perf_counter()
            task.fit(train, epochs=epochs, batch_size=BATCH, **options)
            seconds = time.perf_counter() - start
            scores = task.evaluate(dev, return_dict=True, verbose=0)
            report("lingxi with a CRF" if crf else "lingxi", scores, seconds)
    print(f"{task.count_params() / 1e6:.2f} M parameters, {epochs} epochs")
    for side, found in f1.items():
        print(f"{side:18} F1 {statistics.mean(found):.4f}, mean of {len(found)}")


def english(types):
    return TokenClassifier.from_preset("minilm_l6_en_uncased", labels=types, max_length=96)


def chinese(types, train, crf):
    return TokenClassifier(*encoder([example.text for example in train]), types, crf=crf)


def scores_of(task, held_out, logits):
    scores = EntityScores(task.tags)
    for index, found in enumerate(logits):
        labels = held_out[index][1]
        assert found.shape[:2] == labels.shape and (labels != IGNORED).any()
        scores.update_state(labels, found)
    return {name: float(np.array(value)) for name, value in scores.result().items()}


if __name__ == "__main__":
    app.run(main)
