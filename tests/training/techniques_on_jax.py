"""Trains by every technique on JAX, over two devices and on one; prints how far apart they end.

The weights that those without random numbers end with are written to DIRECTORY_<technique>.npz.

    KERAS_BACKEND=jax XLA_FLAGS=--xla_force_host_platform_device_count=2 \\
        python -m tests.training.techniques_on_jax DIRECTORY VOCABULARY
"""

import contextlib
import json
import pathlib
import sys

import keras
import numpy as np

from lingxi import training
from lingxi.tasks import TextClassifier
from tests.training import process_training
from tests.training.resumed_on_jax import Dies, PowerCut
from tests.training.tasks_on_jax import distance
from tests.training.test_techniques_of_tasks import MAKERS

PLAIN = {  # no random numbers: TensorFlow ends with the same weights
    "fgm": lambda: training.Fgm(epsilon=0.5),
    "pgd": lambda: training.Pgd(epsilon=0.5, step_size=0.2, steps=2),
}
DRAWN = {
    "freelb": lambda: training.FreeLb(epsilon=0.5, step_size=0.2, steps=2, seed=1),
    "virtual": lambda: training.VirtualAdversarial(epsilon=0.5, seed=1),
    "r_drop": lambda: training.RDrop(alpha=2.0),
    "mixup": lambda: training.Mixup(seed=1),
    "cutoff": lambda: training.Cutoff(0.3, seed=1),
}
OTHERS = ("translator", "tagger with a CRF", "generator")
OPTIONS = {"epochs": 2, "batch_size": 8, "seed": 1, "verbose": 0}
TEXTS, LABELS = process_training.TEXTS[:16], process_training.LABELS[:16]  # batches of one shape


def main(directory, path):
    vocabulary = pathlib.Path(path).read_text("utf-8").split("\n")
    training.distribute("data_parallel")
    two_devices = keras.distribution.distribution()
    found = {}
    for name, make in {**PLAIN, **DRAWN}.items():
        source = f"{directory}_dropout" if name in DRAWN else directory
        keras.distribution.set_distribution(None)
        alone = train(source, make())
        keras.distribution.set_distribution(two_devices)
        found[name] = apart(alone, train(source, make()))
        if name in PLAIN:
            np.savez(f"{directory}_{name}.npz", *alone[0])
    keras.distribution.set_distribution(None)
    for kind in OTHERS:
        task, data = MAKERS[kind](vocabulary)
        before = task.get_weights()
        loss = task.fit(*data, technique=training.Fgm(), batch_size=4, verbose=0).history["loss"]
        found[kind] = {"moved": max(map(distance, before, task.get_weights())), "loss": loss[0]}

    source = f"{directory}_dropout"
    plain = train(source)
    found["recomputed"] = apart(plain, train(source, around=training.recomputed))
    found["rounded"] = apart(plain, train(source, around=training.quantization_aware))
    average = training.WeightAverage(0.0, every_steps=1)
    found["averaged"] = apart(plain, train(source, callbacks=[average]))
    teacher, student = (TextClassifier.from_preset(directory) for _ in range(2))
    teacher.set_weights([1.5 * weight for weight in teacher.get_weights()])
    training.add_lora(student, rank=2)
    distiller = training.Distiller(student, teacher, labels=0.0, logits=1.0, hidden=0.1)
    losses = distiller.fit(TEXTS, LABELS, learning_rate=1e-2, **OPTIONS).history["loss"]
    training.merge_lora(student)
    found["distilled by LoRA"] = {"losses": losses}

    run = training.Checkpoints(f"{directory}_run", every_steps=1)
    whole = train(source, DRAWN["freelb"]())
    with contextlib.suppress(PowerCut):
        train(source, DRAWN["freelb"](), resume=run, callbacks=[Dies(3)])
    assert run.newest() is not None
    found["resumed"] = apart(whole, train(source, DRAWN["freelb"](), resume=run))
    print(json.dumps(found))


def train(source, technique=None, around=None, **options):
    """The weights and the history of a training."""
    keras.utils.set_random_seed(3)
    task = TextClassifier.from_preset(source)
    optimizer = training.AdamW(1e-2, weight_decay=0.01, global_clipnorm=1.0, epsilon=1e-3)
    task.compile(optimizer, technique=technique)
    with contextlib.nullcontext() if around is None else around(task):
        history = task.fit(TEXTS, LABELS, **OPTIONS, **options).history
    return task.get_weights(), history


def apart(one, other):
    """How far two trainings end apart."""
    weights = max(map(distance, one[0], other[0]))
    assert one[1].keys() == other[1].keys()
    return {"weights": weights, "history": max(distance(one[1][k], other[1][k]) for k in one[1])}


if __name__ == "__main__":
    main(*sys.argv[1:])
