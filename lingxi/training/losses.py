"""Losses over labels, of texts and of tokens, and the divergence of two predictions."""

import keras
import numpy as np
from keras import ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

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
        return token_mean(self.call(y_true, y_pred), y_true, sample_weight)

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


def token_mean(values, labels, sample_weight=None):
    """The mean over tokens whose label is not `IGNORED`: `[batch, seq]` to a scalar.

    Under a `tf.distribute` strategy the means of all replicas add up to that of the whole batch.

    Args:
        sample_weight: `[batch]` or `[batch, seq]`.
    """
    weights = ops.cast(ops.not_equal(labels, IGNORED), values.dtype)
    if sample_weight is not None:
        sample_weight = ops.cast(sample_weight, values.dtype)
        if len(sample_weight.shape) == 1:
            sample_weight = ops.expand_dims(sample_weight, 1)
        weights = weights * sample_weight
    total = _of_all_replicas(ops.sum(weights))
    return ops.sum(values * weights) / ops.where(total > 0, total, 1.0)


def _of_all_replicas(total):
    """The sum over the replicas of a `tf.distribute` strategy."""
    if keras.backend.backend() != "tensorflow":
        return total
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return total
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, total)


@keras.saving.register_keras_serializable(package="lingxi")
class ClassCrossEntropy(keras.losses.Loss):
    """Cross-entropy of class labels, `−Σ q log p`, with label smoothing: a mean of each example.

    Labels are ids int `[batch]`, or of tokens `[batch, seq]`, where `IGNORED` ones do not count,
    with logits `[…, classes]`; or 0 and 1 for several labels, `[batch, labels]` as the logits are:
    each is then a choice between the two classes yes and no.

    With label smoothing ε (Szegedy et al. 2016, section 7) `q` is `1 − ε` on the label plus `ε / C`
    on each of the `C` classes.

    Args:
        label_smoothing: ε.
    """

    def __init__(self, label_smoothing=0.0, name="class_cross_entropy", **kwargs):
        super().__init__(name=name, **kwargs)
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        """Labels and logits to `[batch]`."""
        several = len(y_true.shape) == len(y_pred.shape)
        if several:
            one_hot = ops.stack([y_true, 1.0 - y_true], axis=-1)  # [batch, labels, 2]
            y_pred, counts = yes_or_no(y_pred), 1.0
        else:
            is_label = ops.not_equal(y_true, IGNORED)
            ids = ops.cast(ops.where(is_label, y_true, 0), "int32")
            one_hot = ops.one_hot(ids, y_pred.shape[-1], dtype=self.dtype)
            counts = ops.cast(is_label, self.dtype)
            # Keras divides by the number of all of them; it shall be that of those which count.
            counts = counts / ops.maximum(ops.mean(counts), 1e-12)
        share = self.label_smoothing
        q = one_hot * (1.0 - share) + share / y_pred.shape[-1]
        log_p = ops.log_softmax(y_pred, axis=-1)
        losses = -ops.sum(self.weights(log_p, several) * q * log_p, axis=-1)
        return _example_mean(losses * counts)

    def weights(self, log_p, several):
        """Of the term of each class: anything that broadcasts to `[…, classes]`."""
        return 1.0

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable(package="lingxi")
class FocalLoss(ClassCrossEntropy):
    """Cross-entropy in which what is right already counts little: `−Σ α (1 − p)^γ q log p`.

    Lin et al. 2017, equation 5. Labels, logits and label smoothing as of `ClassCrossEntropy`.

    Args:
        gamma: γ; 0 is cross-entropy.
        alpha: α, a number for each class in the order of the task's labels, by default 1. With
            several labels at a time, the weight of a label that is there, for all of them or for
            each; that of one which is not is `1 − α`.
        label_smoothing: ε.
    """

    def __init__(self, gamma=2.0, alpha=None, label_smoothing=0.0, name="focal_loss", **kwargs):
        super().__init__(label_smoothing, name=name, **kwargs)
        if gamma < 0.0:
            raise ValueError(f"gamma must be 0 or more, got {gamma}")
        if alpha is not None and np.min(alpha) < 0.0:
            raise ValueError(f"each alpha must be 0 or more, got {alpha}")
        self.gamma = gamma
        self.alpha = None if alpha is None else np.asarray(alpha, "float32").tolist()

    def weights(self, log_p, several):
        weights = ops.power(ops.maximum(1.0 - ops.exp(log_p), 1e-7), self.gamma)
        if self.alpha is None:
            return weights
        classes, shape = log_p.shape[1 if several else -1], np.shape(self.alpha)
        if shape != (classes,) and not (several and shape == ()):
            raise ValueError(f"alpha must have {classes} numbers, one a label; got {self.alpha}")
        alpha = ops.convert_to_tensor(self.alpha, log_p.dtype)
        if several:
            alpha = ops.stack([alpha, 1.0 - alpha], axis=-1)  # [labels, 2] or [2]
        return weights * alpha

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma, "alpha": self.alpha}


@keras.saving.register_keras_serializable(package="lingxi")
class KlDivergence(keras.losses.Loss):
    """`KL(P ‖ Q) = Σ P log (P / Q)` of two predictions, both as logits `[batch, …, classes]`."""

    def __init__(self, name="kl_divergence", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        """Logits of P and of Q to `[batch]`, of each example the mean."""
        return _example_mean(_divergence(y_true, y_pred))


def token_divergence(labels, p, q, sample_weight=None):
    """`KL(P ‖ Q)` of logits `[batch, seq, classes]`, the mean over tokens with a label."""
    p, q = ops.cast(p, "float32"), ops.cast(q, "float32")
    return token_mean(_divergence(p, q), labels, sample_weight)


def _divergence(p, q):
    """Of logits `[…, classes]`: `[…]`."""
    log_p, log_q = ops.log_softmax(p, axis=-1), ops.log_softmax(q, axis=-1)
    return ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)


def _example_mean(values):
    """`[batch, …]` to `[batch]`: so Keras weighs examples."""
    axes = tuple(range(1, len(values.shape)))
    return ops.mean(values, axis=axes) if axes else values


def yes_or_no(logits):
    """Each logit as a choice between two classes, that label and not: `[…]` to `[…, 2]`."""
    return ops.stack([logits, ops.zeros_like(logits)], axis=-1)


@keras.saving.register_keras_serializable(package="lingxi")
class TokenAccuracy(keras.metrics.Mean):
    """The share of tokens, of those not `IGNORED`, that are the most probable one."""

    def __init__(self, name="accuracy", **kwargs):
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Labels int `[batch, seq]` and logits `[batch, seq, vocab]`."""
        right = ops.equal(ops.cast(ops.argmax(y_pred, axis=-1), "int32"), ops.cast(y_true, "int32"))
        super().update_state(right, ops.not_equal(y_true, IGNORED))
