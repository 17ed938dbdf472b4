"""Losses over sequences of tokens."""

import keras
from keras import ops

IGNORED = -100  # the label of padding, as in PyTorch


@keras.saving.register_keras_serializable(package="lingxi")
class TokenCrossEntropy(keras.losses.Loss):
    """Cross-entropy of the next token, the mean over all tokens that are not `IGNORED`.

    With label smoothing ε (Szegedy et al. 2016, section 7) the target is `1 − ε` on the label plus
    `ε / V` on each of the `V` tokens.

    Args:
        label_smoothing: ε.
    """

    def __init__(self, label_smoothing=0.0, name="token_cross_entropy", **kwargs):
        super().__init__(name=name, **kwargs)
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self.label_smoothing = label_smoothing

    def __call__(self, y_true, y_pred, sample_weight=None):
        """The mean; `sample_weight` `[batch]` or `[batch, seq]` weighs the tokens."""
        losses = self.call(y_true, y_pred)
        weights = ops.cast(ops.not_equal(y_true, IGNORED), losses.dtype)
        if sample_weight is not None:
            sample_weight = ops.cast(sample_weight, losses.dtype)
            if len(sample_weight.shape) == 1:
                sample_weight = ops.expand_dims(sample_weight, 1)
            weights = weights * sample_weight
        total = ops.sum(weights)
        return ops.sum(losses * weights) / ops.where(total > 0, total, 1.0)

    def call(self, y_true, y_pred):
        """Labels int `[batch, seq]` and logits `[batch, seq, vocab]` to `[batch, seq]`."""
        batch, seq, vocab_size = ops.shape(y_pred)
        logits = ops.reshape(ops.cast(y_pred, "float32"), (batch * seq, vocab_size))
        labels = ops.reshape(ops.maximum(ops.cast(y_true, "int32"), 0), (batch * seq,))
        if self.label_smoothing:
            targets = ops.one_hot(labels, vocab_size) * (1.0 - self.label_smoothing)
            targets = targets + self.label_smoothing / vocab_size
            losses = ops.categorical_crossentropy(targets, logits, from_logits=True)
        else:
            losses = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        return ops.reshape(losses, (batch, seq))

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable(package="lingxi")
class TokenAccuracy(keras.metrics.Mean):
    """The share of tokens, of those not `IGNORED`, that are the most probable one."""

    def __init__(self, name="accuracy", **kwargs):
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Labels int `[batch, seq]` and logits `[batch, seq, vocab]`."""
        right = ops.equal(ops.cast(ops.argmax(y_pred, axis=-1), "int32"), ops.cast(y_true, "int32"))
        super().update_state(right, ops.not_equal(y_true, IGNORED))
