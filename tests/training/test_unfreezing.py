"""Gradual unfreezing trains the blocks one after the other, from above."""

import keras
import numpy as np
import pytest

from lingxi.training import AdamW, GradualUnfreezing


class Moves(keras.callbacks.Callback):
    """Which weights an epoch has changed."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.before = {w.path: np.array(w) for w in self.model.trainable_variables}
        self.all = {w.path: np.array(w) for w in self.model.weights}

    def on_epoch_end(self, epoch, logs=None):
        moved = {w.path for w in self.model.weights if not np.array_equal(w, self.all[w.path])}
        assert moved <= set(self.before)
        self.epochs.append(moved)


def test_one_block_more_learns_each_time(tiny_classifier):
    task = tiny_classifier()
    count = len(task.backbone.blocks)
    moves = Moves()
    task.compile(AdamW(0.01, weight_decay=0.01))
    task.fit(
        ["good", "bad"] * 4,
        ["positive", "negative"] * 4,
        epochs=2 * (count + 2),
        callbacks=[GradualUnfreezing(epochs=2), moves],
        verbose=0,
    )
    for epoch, moved in enumerate(moves.epochs):
        lowest = count - epoch // 2
        assert "head/kernel" in moved
        for block in range(count):
            assert any(f"block_{block}/" in path for path in moved) == (block >= lowest)
        assert any("token_embedding" in path for path in moved) == (lowest < 0)
    assert all(weight.trainable for weight in task.backbone.weights)


def test_what_was_frozen_before_stays_frozen(tiny_classifier):
    task = tiny_classifier()
    task.backbone.token_embedding.trainable = False
    before = np.array(task.backbone.token_embedding.embeddings)
    fit = {"epochs": 6, "callbacks": [GradualUnfreezing()], "verbose": 0}
    task.fit(["good"], ["positive"], **fit)
    np.testing.assert_array_equal(task.backbone.token_embedding.embeddings, before)


def test_epochs_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        GradualUnfreezing(0)
