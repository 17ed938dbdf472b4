"""The mean of the weights that a training goes through."""

import keras
import numpy as np
from absl import logging


class WeightAverage(keras.callbacks.Callback):
    """Stochastic weight averaging (Izmailov et al. 2018): at the end the model is the mean.

    From `start` on the weights at the end of every epoch, or of every so many steps, count alike.
    Validations while training are of the weights of that time. The rate should stay high enough
    for the weights to differ: `fit(…, schedule="constant")`. It goes on with `fit(…, resume=…)`.
    For a mean of which older weights fade, give an optimizer `use_ema=True`.

    Args:
        start: the share of all epochs after which weights count.
        every_steps: steps from one set of weights to the next, in place of an epoch.
    """

    def __init__(self, start=0.5, every_steps=None):
        super().__init__()
        if not 0.0 <= start < 1.0:
            raise ValueError(f"start must be a share of the epochs, in [0, 1), got {start}")
        if every_steps is not None and every_steps < 1:
            raise ValueError(f"every_steps must be at least 1, got {every_steps}")
        self.start = start
        self.every_steps = every_steps
        self.count = 0  # sets of weights in the mean
        self.mean = []  # float32 arrays
        self.steps = 0  # since `start`

    def on_train_begin(self, logs=None):
        self._averaged = {id(variable) for variable in self.model.trainable_variables}
        self.count, self.mean, self.steps = 0, [], 0
        if any("moving_variance" in v.path for v in self.model.non_trainable_variables):
            logging.warning(
                "the statistics of batch normalization are those of the last weights, not of the "
                "mean: call the model on training data with training=True after fit"
            )

    def on_epoch_begin(self, epoch, logs=None):
        self._counts = epoch >= int(self.start * self.params["epochs"])

    def on_train_batch_end(self, batch, logs=None):
        if self._counts and self.every_steps is not None:
            self.steps += 1
            if self.steps % self.every_steps == 0:
                self._add()

    def on_epoch_end(self, epoch, logs=None):
        if self._counts and self.every_steps is None:
            self._add()

    def on_train_end(self, logs=None):
        if self.count:
            for variable, mean in zip(self._variables(), self.mean, strict=True):
                variable.assign(mean)

    def _add(self):
        self.count += 1
        weights = [np.array(variable, "float32") for variable in self._variables()]
        if self.count == 1:
            self.mean = weights
        else:
            for mean, weight in zip(self.mean, weights, strict=True):
                mean += (weight - mean) / self.count

    def _variables(self):
        """Those that learned when it began; on JAX `model` has them written by the steps."""
        return [variable for variable in self.model.variables if id(variable) in self._averaged]

    def get_state(self):
        """What a checkpoint keeps of it."""
        return {"count": self.count, "steps": self.steps, "mean": self.mean}

    def set_state(self, state):
        """Go on from a checkpoint."""
        self.count, self.steps = state["count"], state["steps"]
        self.mean = [np.array(mean) for mean in state["mean"]]
