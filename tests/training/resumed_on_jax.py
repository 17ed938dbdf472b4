"""Trains on JAX, whole and broken off again and again.

It prints what ends differently from the whole one, which is nothing:

    python -m tests.training.resumed_on_jax PRESET DIRECTORY
"""

import json
import sys

import keras
import numpy as np

from lingxi.tasks import TextClassifier
from lingxi.training import Checkpoints
from tests.training.process_training import LABELS, TEXTS


class PowerCut(Exception):
    pass


class Dies(keras.callbacks.Callback):
    """Ends the training after so many steps."""

    def __init__(self, left):
        super().__init__()
        self.left = left

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise PowerCut


def main(preset, directory):
    plain = outcome(preset, None)
    whole = outcome(preset, f"{directory}/whole")
    broken = Checkpoints(f"{directory}/broken", every_steps=1)
    for steps in (2, 1, 3):  # within the first epoch, at its end, within the second
        try:
            outcome(preset, broken, steps)
        except PowerCut:
            continue
        raise AssertionError("the power was cut")
    resumed = outcome(preset, broken)
    finished = outcome(preset, broken)  # reads the end
    found = {"plain": plain, "resumed": resumed, "finished": finished}
    print(json.dumps({name: differing(values, whole) for name, values in found.items()}))


def outcome(preset, resume, died_at=0):
    keras.utils.set_random_seed(3)
    task = TextClassifier.from_preset(preset)
    stop = keras.callbacks.EarlyStopping("val_loss", patience=5, restore_best_weights=True)
    options = {"epochs": 2, "batch_size": 8, "seed": 1, "learning_rate": 1e-2, "verbose": 0}
    options |= {"validation_data": (TEXTS, LABELS), "callbacks": [stop, Dies(died_at)]}
    history = task.fit(TEXTS, LABELS, resume=resume, **options).history
    variables = [*task.variables, *task.optimizer.variables]
    values = {f"{i} {v.path}": keras.ops.convert_to_numpy(v) for i, v in enumerate(variables)}
    return values | {name: np.array(values) for name, values in history.items()}


def differing(found, wanted):
    """Names of what is not the same to the last bit."""
    assert len(found) == len(wanted)
    pairs = zip(found.items(), wanted.values(), strict=True)
    return [name for (name, a), b in pairs if not np.array_equal(a, b)]


if __name__ == "__main__":
    main(*sys.argv[1:])
