"""Training on embeddings that are mixed with those of other texts, or cut out."""

import keras
from keras import ops

from lingxi.layers import changed_embeddings
from lingxi.training.gradients import gradients
from lingxi.training.technique import Technique, check_positive, token_mask

CUTS = ("token", "span", "feature")


@keras.saving.register_keras_serializable(package="lingxi")
class Mixup(Technique):
    """Mixup of the embeddings of two texts (Zhang et al. 2018; Guo et al. 2019, wordMixup).

    `x = λ xᵢ + (1 − λ) xⱼ` and `L = λ L(x, yᵢ) + (1 − λ) L(x, yⱼ)`, where `j` are the texts of the
    batch in a random order and `λ ~ Beta(α, α)`, of each text its own. Padding counts as zeros. As
    the two texts of a pair stand for each other, `λ` is taken from the upper half: the metrics,
    which compare with `yᵢ`, then compare with the heavier label. The work of a plain step.

    For tasks that say one thing of a whole text: `TextClassifier` and `TextRegressor`.

    Args:
        alpha: α; the smaller, the less is mixed.
        seed: of the random numbers, by default another one every time.

    Raises:
        TypeError: while training, of a task that says something of single tokens.
    """

    def __init__(self, alpha=1.0, seed=None):
        check_positive(alpha=alpha)
        self.alpha = alpha
        self.seed = seed
        self.random = keras.random.SeedGenerator(seed)

    def loss_and_gradients(self, model, x, y, sample_weight, scale_loss):
        if "token_ids" not in x:
            raise _unmixable(model)
        x = keras.tree.map_structure(ops.convert_to_tensor, x)
        batch = ops.shape(x["token_ids"])[:1]
        share = keras.random.beta(batch, self.alpha, self.alpha, "float32", self.random)
        share = ops.maximum(share, 1.0 - share)  # [batch]
        partner = ops.argsort(keras.random.uniform(batch, seed=self.random))  # [batch]
        mask = x["padding_mask"]
        mixed = {**x, "padding_mask": mask | ops.take(mask, partner, axis=0)}

        def mix(token_ids, embeddings):
            own = embeddings * ops.cast(ops.expand_dims(mask, -1), embeddings.dtype)
            weight = ops.cast(ops.reshape(share, (-1, 1, 1)), embeddings.dtype)  # [batch, 1, 1]
            return weight * own + (1 - weight) * ops.take(own, partner, axis=0)

        def partners(values):
            return keras.tree.map_structure(lambda value: ops.take(value, partner, axis=0), values)

        weights = 1.0 if sample_weight is None else ops.cast(sample_weight, "float32")
        weights *= ops.ones_like(share)

        def of_both(_):
            outputs = _outputs(model, mixed, mix)
            if not (ops.is_tensor(outputs) and len(outputs.shape) == 2):
                raise _unmixable(model)
            loss = model.compute_loss(x, y, outputs, share * weights, training=True)
            loss += model.compute_loss(
                x, partners(y), outputs, (1.0 - share) * partners(weights), training=True
            )
            return scale_loss(loss), (loss, outputs)

        (loss, outputs), by_weights, _ = gradients(of_both, model.trainable_weights)
        return loss, outputs, by_weights

    def get_config(self):
        return {"alpha": self.alpha, "seed": self.seed}


@keras.saving.register_keras_serializable(package="lingxi")
class Cutoff(Technique):
    """Cutoff (Shen et al. 2020): `L(x) + α L(x′) + β (KL(p ‖ p′) + KL(p′ ‖ p)) / 2`.

    In `x′` a part of the embeddings of tokens is zero; positions and the first token stay. The
    divergence is that of the two predictions, where the paper takes theirs from their mean. Twice
    the work of a plain step.

    Args:
        rate: share of the tokens, or features, that are cut.
        kind: "token", any; "span", neighbours; "feature", the same numbers of all tokens.
        weight: α.
        consistency: β; 0 for a task whose outputs are no probabilities.
        seed: of the random numbers, by default another one every time.

    Raises:
        TypeError: while training with a consistency, of a task whose outputs are no probabilities.
    """

    def __init__(self, rate=0.1, kind="token", weight=1.0, consistency=1.0, seed=None):
        check_positive(rate=rate, weight=weight)
        if rate >= 1.0:
            raise ValueError(f"rate must be below 1, got {rate}")
        if kind not in CUTS:
            raise ValueError(f"kind must be one of {CUTS}, got {kind!r}")
        if consistency < 0:
            raise ValueError(f"consistency must not be negative, got {consistency}")
        self.rate = rate
        self.kind = kind
        self.weight = weight
        self.consistency = consistency
        self.seed = seed
        self.random = keras.random.SeedGenerator(seed)

    def loss_and_gradients(self, model, x, y, sample_weight, scale_loss):
        x = keras.tree.map_structure(ops.convert_to_tensor, x)

        def cut(token_ids, embeddings):
            kept = self.kept(token_mask(model, x, y, token_ids), ops.shape(embeddings))
            return embeddings * ops.cast(kept, embeddings.dtype)

        def whole_and_rest(_):
            whole, rest = model(x, training=True), _outputs(model, x, cut)
            loss, of_rest = (
                model.compute_loss(x, y, outputs, sample_weight, training=True)
                for outputs in (whole, rest)
            )
            loss += self.weight * of_rest
            if self.consistency:
                divergence = model.divergence(x, y, whole, rest, sample_weight)
                divergence += model.divergence(x, y, rest, whole, sample_weight)
                loss += self.consistency * divergence / 2.0
            return scale_loss(loss), (loss, whole)

        (loss, whole), by_weights, _ = gradients(whole_and_rest, model.trainable_weights)
        return loss, whole, by_weights

    def kept(self, mask, shape):
        """What is not cut of embeddings `shape`: bool `[batch, seq or 1, hidden or 1]`.

        Args:
            mask: 1 at real tokens, float32 `[batch, seq, 1]`.
            shape: `[batch, seq, hidden]`.
        """
        batch, seq, hidden = shape
        if self.kind == "feature":
            scores = keras.random.uniform((batch, 1, hidden), seed=self.random)
            return _rank(scores, axis=2) >= int(self.rate * hidden)
        mask = ops.squeeze(mask, -1)  # [batch, seq]
        length = ops.sum(mask, axis=1, keepdims=True) - 1.0  # [batch, 1], without the first
        count = ops.round(self.rate * length)
        column = ops.expand_dims(ops.arange(seq, dtype="int32"), 0)  # [1, seq]
        if self.kind == "token":
            scores = keras.random.uniform((batch, seq), seed=self.random)
            scores = ops.where((mask > 0) & (column > 0), scores, 2.0)
            kept = _rank(scores, axis=1) >= ops.cast(count, "int32")
        else:
            places = keras.random.uniform((batch, 1), seed=self.random)
            first = 1.0 + ops.floor(places * (length - count + 1.0))
            place = ops.cast(column, "float32")
            kept = (place < first) | (place >= first + count)
        return ops.expand_dims(kept, -1)

    def get_config(self):
        return {
            "rate": self.rate,
            "kind": self.kind,
            "weight": self.weight,
            "consistency": self.consistency,
            "seed": self.seed,
        }


def _outputs(model, x, change):
    """What a model says of changed embeddings.

    Raises:
        TypeError: it embeds no tokens.
    """
    called = []

    def changed(token_ids, embeddings):
        called.append(True)
        return change(token_ids, embeddings)

    with changed_embeddings(changed):
        outputs = model(x, training=True)
    if not called:
        raise TypeError(
            f"a {type(model).__name__} embeds no tokens, so that nothing can be changed in their "
            "embeddings; train it without Mixup and Cutoff"
        )
    return outputs


def _rank(scores, axis):
    """The place of each score among those of its row, from 0."""
    return ops.argsort(ops.argsort(scores, axis=axis), axis=axis)


def _unmixable(model):
    return TypeError(
        f"Mixup is for tasks that say one thing of a whole text, not for a {type(model).__name__}; "
        "Cutoff, Fgm and FreeLb take every task"
    )
