"""What each technique of training is worth: MiniLM on a slice of SST-2, with it and without.

    python benchmarks/techniques.py [--technique=all|fgm,r_drop,…] [--texts=500] [--epochs=3]

Accuracy on the dev set in percent and its difference from that of the plain training, mean and
standard deviation over the seeds; and training examples a second, the first epoch with its tracing
left out. The trainings of one seed have the same texts, the same head before they start, and the
same order. The settings of the techniques are those that stand here, not tuned.
"""

import math
import statistics
import time

from absl import app, flags
from common import describe_machine, sst2

PRESET, LABELS, LENGTH, BATCH, RATE = "minilm_l6_en_uncased", ["negative", "positive"], 64, 32, 2e-4
NAMES = [
    *("plain", "constant", "cosine", "polynomial", "exponential", "inverse_square_root"),
    *("layer_decay", "unfreezing", "accumulation", "unclipped", "weight_average", "moving_average"),
    *("label_smoothing", "focal_loss", "fgm", "pgd", "freelb", "virtual", "r_drop", "mixup"),
    *("cutoff", "augmentation", "replacement", "keyboard_noise", "ocr_noise", "mixed_bfloat16"),
]
ACCUMULATED = 4  # batches of a quarter of the size
TECHNIQUES = flags.DEFINE_list("technique", ["all"], f"what to run, of {', '.join(NAMES)}; or all")
TEXTS = flags.DEFINE_integer("texts", 500, "of the training", lower_bound=BATCH)
EPOCHS = flags.DEFINE_integer("epochs", 3, "of the training", lower_bound=2)
SEEDS = flags.DEFINE_integer("seeds", 3, "trainings of each technique", lower_bound=2)
EPSILON = flags.DEFINE_float("epsilon", 0.1, "size of the adversaries", lower_bound=0.0)
DEV = flags.DEFINE_integer("dev", None, "texts of the dev set, by default all")


def main(_):
    names = NAMES if TECHNIQUES.value == ["all"] else ["plain", *TECHNIQUES.value]
    names = list(dict.fromkeys(names))
    unknown = set(names) - set(NAMES)
    if unknown:
        raise app.UsageError(f"no technique {', '.join(unknown)}; there are {', '.join(NAMES)}")
    print(describe_machine(), flush=True)
    dev = tuple(side[: DEV.value] for side in sst2("dev"))
    found = {}
    for name in names:
        found[name] = [train(name, seed, dev) for seed in range(1, SEEDS.value + 1)]
        report(name, found[name], found["plain"])


def train(name, seed, dev):
    """Accuracy on the dev set, and examples a second, of one training."""
    import keras
    import numpy as np

    from lingxi import text, training
    from lingxi.tasks import TextClassifier

    texts, labels = sst2("train")
    rows = np.random.default_rng(seed).permutation(len(texts))[: TEXTS.value]
    size = BATCH // ACCUMULATED if name == "accumulation" else BATCH
    steps = EPOCHS.value * math.ceil(len(rows) / size)
    epsilon = EPSILON.value
    loss = {
        "label_smoothing": training.ClassCrossEntropy(label_smoothing=0.1),
        "focal_loss": training.FocalLoss(gamma=2.0),
    }
    technique = {
        "fgm": training.Fgm(epsilon),
        "pgd": training.Pgd(epsilon, step_size=0.4 * epsilon, steps=3),
        "freelb": training.FreeLb(epsilon, step_size=0.4 * epsilon, steps=3, seed=seed),
        "virtual": training.VirtualAdversarial(epsilon, seed=seed),
        "r_drop": training.RDrop(alpha=1.0),
        "mixup": training.Mixup(seed=seed),
        "cutoff": training.Cutoff(seed=seed),
    }
    augmentation = {
        "augmentation": [text.RandomDeletion(0.1), text.RandomSwap(0.1)],
        "replacement": text.RandomReplacement(0.1),
        "keyboard_noise": text.KeyboardNoise(0.05),
        "ocr_noise": text.OcrNoise(0.05),
    }
    schedule = {"weight_average": "constant", **{each: each for each in training.SCHEDULES}}

    keras.utils.set_random_seed(seed)
    dtype = name if name == "mixed_bfloat16" else None
    task = TextClassifier.from_preset(PRESET, labels=LABELS, max_length=LENGTH, dtype=dtype)
    optimizer = task.default_optimizer(RATE, steps, schedule=schedule.get(name, "linear"))
    if name == "layer_decay":
        optimizer.rate_factors = training.layer_decay(task, 0.9)
    if name == "unclipped":
        optimizer.global_clipnorm = None
    if name == "accumulation":
        optimizer.gradient_accumulation_steps = ACCUMULATED
    if name == "moving_average":
        optimizer.use_ema, optimizer.ema_momentum = True, 0.9
    task.compile(optimizer, loss=loss.get(name), technique=technique.get(name))
    clock = stopwatch()
    callbacks = {
        "weight_average": training.WeightAverage(0.0),
        "unfreezing": training.GradualUnfreezing(epochs=1),
    }
    task.fit(
        [texts[row] for row in rows],
        [labels[row] for row in rows],
        epochs=EPOCHS.value,
        batch_size=size,
        seed=seed,
        augmentation=augmentation.get(name),
        callbacks=[clock, *([callbacks[name]] if name in callbacks else [])],
        verbose=0,
    )
    accuracy = task.evaluate(*dev, return_dict=True, verbose=0)["accuracy"]
    return 100 * accuracy, len(rows) / statistics.mean(clock.seconds[1:])


def stopwatch():
    """A callback with the `seconds` of each epoch."""
    import keras

    class Stopwatch(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seconds = []

        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.seconds.append(time.perf_counter() - self.start)

    return Stopwatch()


def report(name, found, plain):
    accuracies, speeds = zip(*found, strict=True)
    gains = [mine[0] - other[0] for mine, other in zip(found, plain, strict=True)]
    speed = statistics.mean(speeds)
    share = speed / statistics.mean(speed for _, speed in plain)
    print(
        f"{name:16} {statistics.mean(accuracies):6.2f} ± {statistics.stdev(accuracies):.2f} "
        f"({statistics.mean(gains):+.2f} ± {statistics.stdev(gains):.2f}), "
        f"{speed:6.1f} examples/s, {share:.2f} of plain",
        flush=True,
    )


if __name__ == "__main__":
    app.run(main)
