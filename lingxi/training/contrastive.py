"""Losses and metrics over embeddings of texts that belong together."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="lingxi")
class InBatchNegatives(keras.losses.Loss):
    """Cross-entropy of a query's right text among all texts of the batch.

    `−log (exp(cos(qᵢ, cᵢ) / τ) / Σⱼ exp(cos(qᵢ, cⱼ) / τ))` (Henderson et al. 2017, section 4; van
    den Oord et al. 2018, section 2.3). Where the batch has a right text twice, or a query, the
    others' right answers do not count as wrong.

    Args:
        temperature: τ.
        symmetric: also find the query of each right text, and take the mean of both.
    """

    def __init__(self, temperature=0.05, symmetric=False, name="in_batch_negatives", **kwargs):
        super().__init__(name=name, **kwargs)
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.temperature = temperature
        self.symmetric = symmetric

    def call(self, y_true, y_pred):
        """Numbers and embeddings of the texts to `[batch]`.

        Args:
            y_true: `[batch, texts]`, equal numbers for equal texts: of a query, its right text and
                perhaps wrong ones.
            y_pred: `[batch, texts, dim]`.
        """
        scores = _scores(y_true, y_pred) / self.temperature  # [batch, candidates]
        batch = ops.shape(scores)[0]
        right = ops.arange(batch)
        losses = ops.sparse_categorical_crossentropy(right, scores, from_logits=True)
        if self.symmetric:
            of_texts = ops.transpose(scores[:, :batch])
            backwards = ops.sparse_categorical_crossentropy(right, of_texts, from_logits=True)
            losses = (losses + backwards) / 2.0
        return losses

    def get_config(self):
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "symmetric": self.symmetric,
        }


@keras.saving.register_keras_serializable(package="lingxi")
class RetrievalAccuracy(keras.metrics.Mean):
    """The share of queries whose right text is the nearest one of the batch.

    It depends on the batch size. Inputs as of `InBatchNegatives`.
    """

    def __init__(self, name="accuracy", **kwargs):
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true, y_pred, sample_weight=None):
        scores = _scores(y_true, y_pred)
        nearest = ops.argmax(scores, axis=-1)
        right = ops.arange(ops.shape(scores)[0], dtype=nearest.dtype)
        super().update_state(ops.equal(nearest, right), sample_weight)


@keras.saving.register_keras_serializable(package="lingxi")
class CosineLoss(keras.losses.Loss):
    """`(cos(a, b) − y)²` of two texts and the similarity that they should have, in [-1, 1]."""

    def __init__(self, name="cosine_loss", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        """Similarities `[batch]` and embeddings `[batch, 2, dim]` to `[batch]`."""
        return ops.square(cosine(y_pred) - ops.cast(y_true, y_pred.dtype))


@keras.saving.register_keras_serializable(package="lingxi")
class CosineCorrelation(keras.metrics.Metric):
    """Pearson's correlation of the cosine of two texts with their similarity, over all batches.

    0 where it is not defined: fewer than two pairs, or all equal. Inputs as of `CosineLoss`.
    """

    def __init__(self, name="pearson", **kwargs):
        super().__init__(name=name, **kwargs)
        # Σ w (1, x, y, x², y², x y)
        self.moments = self.add_weight(shape=(6,), initializer="zeros", name="moments")

    def update_state(self, y_true, y_pred, sample_weight=None):
        x, y = ops.cast(cosine(y_pred), self.dtype), ops.cast(y_true, self.dtype)
        moments = ops.stack([ops.ones_like(x), x, y, x * x, y * y, x * y])  # [6, batch]
        if sample_weight is not None:
            moments = moments * ops.cast(sample_weight, self.dtype)
        self.moments.assign_add(ops.sum(moments, axis=1))

    def result(self):
        _, x, y, xx, yy, xy = ops.unstack(self.moments / ops.maximum(self.moments[0], 1e-7))
        variances = (xx - x * x) * (yy - y * y)
        defined = variances > 1e-12
        deviations = ops.sqrt(ops.where(defined, variances, 1.0))
        return ops.where(defined, (xy - x * y) / deviations, 0.0)

    def reset_state(self):
        self.moments.assign(ops.zeros((6,)))


def cosine(embeddings):
    """Of two texts: `[batch, 2, dim]` to `[batch]`."""
    first, second = ops.unstack(ops.normalize(embeddings, axis=-1), num=2, axis=1)
    return ops.sum(first * second, axis=-1)


def _scores(texts, embeddings):
    """Cosines of all queries with all right texts and then all wrong ones, `[batch, candidates]`.

    The lowest number stands where a candidate is no wrong answer, though not the query's own.
    """
    batch, num_texts, dim = ops.shape(embeddings)
    embeddings = ops.normalize(ops.cast(embeddings, "float32"), axis=-1)
    candidates = ops.transpose(embeddings[:, 1:], (1, 0, 2))  # [texts − 1, batch, dim]
    candidates = ops.reshape(candidates, (-1, dim))
    scores = ops.matmul(embeddings[:, 0], ops.transpose(candidates))

    query, right = texts[:, :1], texts[:, 1:2]  # [batch, 1]
    same_text = ops.equal(right, ops.reshape(ops.transpose(texts[:, 1:]), (1, -1)))
    same_query = ops.equal(query, ops.transpose(query))  # [batch, batch], of the right texts only
    same_query = ops.pad(same_query, [[0, 0], [0, (num_texts - 2) * batch]])
    own = ops.eye(batch, (num_texts - 1) * batch, dtype="bool")
    excluded = ops.logical_and(ops.logical_or(same_text, same_query), ops.logical_not(own))
    return ops.where(excluded, -1e4, scores)
