"""How well a language model predicts."""

import keras
from keras import ops

from lingxi.training.losses import IGNORED, TokenCrossEntropy


@keras.saving.register_keras_serializable(package="lingxi")
class Perplexity(keras.metrics.Mean):
    """`exp` of the mean cross-entropy of all tokens that are not `IGNORED`."""

    def __init__(self, name="perplexity", **kwargs):
        super().__init__(name=name, **kwargs)
        self.cross_entropy = TokenCrossEntropy()

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Labels int `[batch, seq]` and logits `[batch, seq, vocab]`.

        TensorFlow sees that the loss is the same operation on the same logits, and runs it once.
        """
        losses = self.cross_entropy.call(y_true, y_pred)
        super().update_state(losses, ops.not_equal(y_true, IGNORED))

    def result(self):
        return ops.exp(super().result())
