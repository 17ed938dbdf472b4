"""The mean of the weights that a training goes through."""

import keras
import numpy as np
import pytest

from lingxi.training import AdamW, Checkpoints, WeightAverage
from tests.tasks.test_resume import Dies

X, Y = np.random.default_rng(0).normal(size=(8, 3)).astype("float32"), np.arange(8) % 2
TEXTS, LABELS = ["good", "bad", "the good film", "bad night"], np.array([1, 0, 1, 0])


class Weights(keras.callbacks.Callback):
    """Those at the end of every step."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append([np.array(variable) for variable in self.model.trainable_variables])


def train(average, epochs):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.5), loss, run_eagerly=True)
    weights = Weights()
    model.fit(X, Y, batch_size=2, epochs=epochs, callbacks=[weights, average], verbose=0)
    return model, weights.steps


@pytest.mark.parametrize(
    ("start", "every_steps", "counted"),
    [
        (0.5, None, [11, 15]),
        (0.0, None, [3, 7, 11, 15]),
        (0.5, 3, [10, 13]),
        (0.9, 1, [12, 13, 14, 15]),
    ],
)
def test_the_model_becomes_the_mean(start, every_steps, counted):
    model, steps = train(WeightAverage(start, every_steps), epochs=4)
    for index, variable in enumerate(model.trainable_variables):
        wanted = np.mean([steps[step][index] for step in counted], axis=0)
        np.testing.assert_allclose(variable, wanted, atol=1e-6)
        assert np.abs(np.array(variable) - steps[-1][index]).max() > 1e-4


def test_it_can_be_used_again():
    average = WeightAverage(0.0)
    first, _ = train(average, epochs=2)
    second, _ = train(average, epochs=2)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_training_goes_on_with_its_mean(tiny_classifier, tmp_path):
    def fit(directory, *callbacks):
        task = tiny_classifier()
        task.compile(AdamW(0.01), run_eagerly=True)
        where = Checkpoints(directory, every_steps=1)
        callbacks = [WeightAverage(0.3, every_steps=1), *callbacks]
        options = {"epochs": 3, "batch_size": 2, "seed": 1, "verbose": 0}
        task.fit(TEXTS, LABELS, resume=where, callbacks=callbacks, **options)
        return task

    whole = fit(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="the power went off"):
        fit(tmp_path / "broken", Dies(4))
    for a, b in zip(fit(tmp_path / "broken").get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="got 1.0"):
        WeightAverage(1.0)
    with pytest.raises(ValueError, match="got 0"):
        WeightAverage(every_steps=0)
