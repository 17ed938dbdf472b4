"""Training on the worst points around the embeddings of a batch.

A point is what is added to the embeddings of the tokens, zero at padding: a float32 `[batch, seq,
hidden]` for each sequence that a model embeds (source and target of a pair, both texts of a pair to
embed). Its size is the norm `‖·‖` over `[seq, hidden]`, of each example by itself; beside it, a row
of MiniLM's table has a norm of 1.1 on average. One that is too large keeps a model from learning:
500 sentences taught MiniLM with 0.1, and nothing with 0.3; with much data, or a model that has
learned already, try more. All passes over a batch have the same dropout, and together move its
random numbers on by one pass.
"""

import collections

import keras
from keras import ops

from lingxi.layers import TokenEmbedding, changed_embeddings
from lingxi.training.gradients import gradients, summed
from lingxi.training.technique import (
    Technique,
    check_positive,
    dropout_states,
    name_of,
    token_mask,
)


@keras.saving.register_keras_serializable(package="lingxi")
class Fgm(Technique):
    """Fast gradient method (Miyato et al. 2017): `L(0) + λ L(ε g / ‖g‖)`, where `g = ∇L(0)`.

    Twice the work of a plain step.

    Args:
        epsilon: ε, the size of the point, in units of the embeddings.
        weight: λ.
    """

    def __init__(self, epsilon=0.1, weight=1.0):
        check_positive(epsilon=epsilon, weight=weight)
        self.epsilon = epsilon
        self.weight = weight

    def loss_and_gradients(self, model, x, y, sample_weight, scale_loss):
        passes = _Passes(model, x, y, sample_weight, scale_loss)
        clean = passes.at(passes.zeros(), passes.loss)
        point = [self.epsilon * unit(gradient) for gradient in clean.ascent]
        worst = passes.at(point, lambda outputs: self.weight * passes.loss(outputs))
        return clean.loss + worst.loss, clean.outputs, summed(clean.gradients, worst.gradients)

    def get_config(self):
        return {"epsilon": self.epsilon, "weight": self.weight}


@keras.saving.register_keras_serializable(package="lingxi")
class Pgd(Technique):
    """Projected gradient descent (Madry et al. 2018): `L(0) + λ L(δ)`, `δ` found in several steps.

    `δ ← Π(δ + α g / ‖g‖)` from `δ = 0`, where `g = ∇L(δ)` and `Π` shortens to the size ε. With the
    clean loss, as in `Fgm`. `steps + 1` times the work of a plain step.

    Args:
        epsilon: ε, the greatest size of the point, in units of the embeddings.
        step_size: α.
        steps: of the search.
        weight: λ.
    """

    def __init__(self, epsilon=0.1, step_size=0.04, steps=3, weight=1.0):
        check_positive(epsilon=epsilon, step_size=step_size, steps=steps, weight=weight)
        self.epsilon = epsilon
        self.step_size = step_size
        self.steps = steps
        self.weight = weight

    def loss_and_gradients(self, model, x, y, sample_weight, scale_loss):
        passes = _Passes(model, x, y, sample_weight, scale_loss)
        clean = passes.at(passes.zeros(), passes.loss)
        point = _step(clean.point, clean.ascent, self.step_size, self.epsilon)
        for _ in range(self.steps - 1):
            ascent = passes.at(point, passes.loss, learn=False).ascent
            point = _step(point, ascent, self.step_size, self.epsilon)
        worst = passes.at(point, lambda outputs: self.weight * passes.loss(outputs))
        return clean.loss + worst.loss, clean.outputs, summed(clean.gradients, worst.gradients)

    def get_config(self):
        return {
            "epsilon": self.epsilon,
            "step_size": self.step_size,
            "steps": self.steps,
            "weight": self.weight,
        }


@keras.saving.register_keras_serializable(package="lingxi")
class FreeLb(Technique):
    """Free large-batch training (Zhu et al. 2020, algorithm 1): the mean of the loss on the way up.

    `1/K Σ L(δₜ)` of `K` points: `δ₀ = U(−ε, ε) / √N` for an example of `N` numbers, then `δ ← Π(δ +
    α g / ‖g‖)`, where `g = ∇L(δ)` and `Π` shortens to the size ε. `K` times the work of a plain
    step; the metrics are those at `δ₀`.

    Args:
        epsilon: ε, the greatest size of a point, in units of the embeddings.
        step_size: α.
        steps: `K`.
        seed: of the random numbers, by default another one every time.
    """

    def __init__(self, epsilon=0.1, step_size=0.04, steps=3, seed=None):
        check_positive(epsilon=epsilon, step_size=step_size, steps=steps)
        self.epsilon = epsilon
        self.step_size = step_size
        self.steps = steps
        self.seed = seed
        self.random = keras.random.SeedGenerator(seed)

    def loss_and_gradients(self, model, x, y, sample_weight, scale_loss):
        passes = _Passes(model, x, y, sample_weight, scale_loss)
        start = [
            self._start(zeros, mask)
            for zeros, mask in zip(passes.zeros(), passes.masks, strict=True)
        ]
        first = found = passes.at(start, lambda outputs: passes.loss(outputs) / self.steps)
        loss, gradients = first.loss, first.gradients
        for _ in range(self.steps - 1):
            point = _step(found.point, found.ascent, self.step_size, self.epsilon)
            found = passes.at(point, lambda outputs: passes.loss(outputs) / self.steps)
            loss, gradients = loss + found.loss, summed(gradients, found.gradients)
        return loss, first.outputs, gradients

    def _start(self, zeros, mask):
        shape = ops.shape(zeros)
        numbers = ops.sum(mask, axis=(1, 2), keepdims=True) * shape[2]
        noise = keras.random.uniform(shape, -self.epsilon, self.epsilon, "float32", self.random)
        return ops.divide_no_nan(noise * mask, ops.sqrt(numbers))

    def get_config(self):
        return {
            "epsilon": self.epsilon,
            "step_size": self.step_size,
            "steps": self.steps,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="lingxi")
class VirtualAdversarial(Technique):
    """Virtual adversarial training (Miyato et al. 2018): `L(0) + λ KL(p(0) ‖ p(r))`.

    `r = ε d`, the direction in which the prediction changes most: from a random `d`, `d ← unit(∇
    KL(p(0) ‖ p(ξ d)))`. `p(0)` is a constant of the divergence. It needs no labels, so examples of
    a sample weight of 0 count in it: give such a weight to texts that nobody has labelled, with any
    label. `2 + iterations` times the work of a plain step.

    Args:
        epsilon: ε, the size of the point, in units of the embeddings.
        weight: λ.
        iterations: of the search for `d`.
        xi: ξ.
        seed: of the random numbers, by default another one every time.

    Raises:
        TypeError: while training, of a task whose outputs are no probabilities.
    """

    def __init__(self, epsilon=0.1, weight=1.0, iterations=1, xi=0.1, seed=None):
        check_positive(epsilon=epsilon, weight=weight, iterations=iterations, xi=xi)
        self.epsilon = epsilon
        self.weight = weight
        self.iterations = iterations
        self.xi = xi
        self.seed = seed
        self.random = keras.random.SeedGenerator(seed)

    def loss_and_gradients(self, model, x, y, sample_weight, scale_loss):
        passes = _Passes(model, x, y, sample_weight, scale_loss)
        clean = passes.at(passes.zeros(), passes.loss)

        def change(outputs):
            return model.divergence(passes.x, y, clean.outputs, outputs)

        noise = [
            keras.random.normal(ops.shape(zeros), dtype="float32", seed=self.random)
            for zeros in clean.point
        ]
        direction = [unit(d * mask) for d, mask in zip(noise, passes.masks, strict=True)]
        for _ in range(self.iterations):
            near = [self.xi * d for d in direction]
            direction = [unit(g) for g in passes.at(near, change, learn=False).ascent]
        point = [self.epsilon * d for d in direction]
        worst = passes.at(point, lambda outputs: self.weight * change(outputs))
        return clean.loss + worst.loss, clean.outputs, summed(clean.gradients, worst.gradients)

    def get_config(self):
        return {
            "epsilon": self.epsilon,
            "weight": self.weight,
            "iterations": self.iterations,
            "xi": self.xi,
            "seed": self.seed,
        }


# What a pass finds: the model's outputs, the loss, its gradients by weights, and its gradient by
# the point where it was.
_Pass = collections.namedtuple("_Pass", "outputs loss gradients ascent point")


class _Passes:
    """A batch over which a model goes several times, at points of its embeddings.

    Args:
        model, x, y, sample_weight, scale_loss: as of `Technique.loss_and_gradients`.

    Attributes:
        masks: of each sequence that is embedded, float32 `[batch, seq, 1]`.

    Raises:
        TypeError: the model embeds no tokens.
    """

    def __init__(self, model, x, y, sample_weight, scale_loss):
        self.model = model
        self.x = keras.tree.map_structure(ops.convert_to_tensor, x)
        self.y = y
        self.sample_weight = sample_weight
        self.scale_loss = scale_loss
        self.width = _width(model)
        self.names = [name for name in self.x if name.endswith("token_ids")]
        self.masks = [token_mask(model, self.x, y, self.x[name]) for name in self.names]
        self.dropout = [(state, ops.copy(state.value)) for state in dropout_states(model)]

    def zeros(self):
        """The point where nothing is added."""
        shapes = [ops.shape(self.x[name]) for name in self.names]  # [batch, seq]
        return [ops.zeros((*shape, self.width), "float32") for shape in shapes]

    def loss(self, outputs):
        """The loss of the task."""
        return self.model.compute_loss(self.x, self.y, outputs, self.sample_weight, training=True)

    def at(self, point, objective, learn=True):
        """A `_Pass` at a point.

        Args:
            objective: a function of the outputs of the model.
            learn: whether gradients by the weights are wanted.
        """
        for state, value in self.dropout:
            state.assign(value)

        def run(point):
            def move(token_ids, embeddings):
                added = point[self.names.index(name_of(self.x, token_ids))]
                return embeddings + ops.cast(added, embeddings.dtype)

            with changed_embeddings(move):
                outputs = self.model(self.x, training=True)
            loss = objective(outputs)
            return self.scale_loss(loss), (outputs, loss)

        weights = self.model.trainable_weights if learn else []
        (outputs, loss), by_weights, ascent = gradients(run, weights, point)
        # Of a loss that was scaled too far for float16 the optimizer leaves the step out.
        ascent = [
            ops.where(ops.isfinite(gradient), gradient, 0.0) * mask
            for gradient, mask in zip(ascent, self.masks, strict=True)
        ]
        return _Pass(outputs, loss, by_weights, ascent, point)


def _width(model):
    """Of the embeddings of the tokens of a model."""
    tables = [layer for layer in model._flatten_layers() if isinstance(layer, TokenEmbedding)]
    if not tables:
        raise TypeError(
            f"a {type(model).__name__} embeds no tokens, so that nothing can be added to their "
            "embeddings; train it without an adversarial technique"
        )
    return tables[0].output_dim


def unit(direction):
    """`v / ‖v‖` of each example `[batch, seq, hidden]`; 0 where it is 0."""
    largest = ops.max(ops.abs(direction), axis=(1, 2), keepdims=True)
    direction = ops.divide_no_nan(direction, largest)  # its squares are neither inf nor 0
    return ops.divide_no_nan(direction, size(direction))


def size(point):
    """`‖v‖` of each example: `[batch, seq, hidden]` to `[batch, 1, 1]`."""
    return ops.sqrt(ops.sum(ops.square(point), axis=(1, 2), keepdims=True))


def _step(point, ascent, step_size, epsilon):
    """`Π(δ + α g / ‖g‖)` for each sequence."""
    moved = [delta + step_size * unit(g) for delta, g in zip(point, ascent, strict=True)]
    return [delta * epsilon / ops.maximum(size(delta), epsilon) for delta in moved]
