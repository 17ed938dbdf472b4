"""Trains every kind of task on JAX over two devices, and on one; prints how far apart they end.

    KERAS_BACKEND=jax XLA_FLAGS=--xla_force_host_platform_device_count=2 \\
        python -m tests.training.tasks_on_jax VOCABULARY KIND…
"""

import json
import pathlib
import sys

import keras
import numpy as np

from lingxi import training
from tests.training.test_techniques_of_tasks import MAKERS


def main(path, *kinds):
    vocabulary = pathlib.Path(path).read_text("utf-8").split("\n")
    training.distribute("data_parallel")
    two_devices = keras.distribution.distribution()
    assert two_devices.num_model_replicas == 2
    found = {}
    for kind in kinds:
        keras.distribution.set_distribution(None)
        weights, alone = train(kind, vocabulary)
        keras.distribution.set_distribution(two_devices)
        others, together = train(kind, vocabulary)
        assert alone.keys() == together.keys()
        found[kind] = {
            "weights": max(map(distance, weights, others)),
            "history": max(distance(alone[name], together[name]) for name in alone),
            "metrics": sorted(alone),
        }
    print(json.dumps(found))


def train(kind, vocabulary):
    keras.utils.set_random_seed(3)
    task, data = MAKERS[kind](vocabulary)
    task.compile(training.AdamW(1e-2, weight_decay=0.01, global_clipnorm=1.0, epsilon=1e-3))
    validation = data if len(data) > 1 else data[0]
    options = {"epochs": 2, "batch_size": 4, "seed": 1, "validation_data": validation}
    history = task.fit(*data, verbose=0, **options).history
    return task.get_weights(), history


def distance(one, other):
    """The greatest difference, of numbers above 1 relative to them."""
    one, other = np.asarray(one), np.asarray(other)
    return float((np.abs(one - other) / np.maximum(np.abs(one), 1.0)).max())


if __name__ == "__main__":
    main(*sys.argv[1:])
