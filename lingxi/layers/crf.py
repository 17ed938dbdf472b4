"""A conditional random field over a sequence of tags (Lafferty et al. 2001)."""

import functools

import keras
from keras import ops

# With an initial value: without one Keras refuses an empty batch.
_greatest = functools.partial(ops.max, initial=float("-inf"))


@keras.saving.register_keras_serializable(package="lingxi")
class LinearChainCrf(keras.layers.Layer):
    """`p(y | P) = exp s(y) / Σ exp s(y')`, the sum over all sequences of tags.

    `s(y) = start[y₁] + Σ P[t, yₜ] + Σ T[yₜ₋₁, yₜ] + end[yₙ]` with the scores `P` of a network and
    learned `T`, `start` and `end` (Lample et al. 2016, section 2.2). These begin as zeros: the tags
    are then independent, each with the softmax of its scores. Where some steps are known to be
    wrong, assign -10 or so to them: trained as slowly as a fine-tuned encoder they stay as they
    were.

    Positions whose mask is False are not part of the sequence, wherever they stand. All is
    computed in float32 in every precision.

    Scores are `[batch, seq, tags]`, masks bool `[batch, seq]`. There is no `call`: `build` the
    layer, then use its methods. Only `log_likelihood` has a gradient, and that no second one.

    Args:
        num_tags: tags.
    """

    def __init__(self, num_tags, **kwargs):
        super().__init__(**kwargs)
        self.num_tags = num_tags

    def build(self, scores_shape=None):
        def weight(name, *shape):
            return self.add_weight(
                name=name, shape=shape, initializer="zeros", dtype="float32", autocast=False
            )

        self.transitions = weight("transitions", self.num_tags, self.num_tags)  # [from, to]
        self.start_scores = weight("start_scores", self.num_tags)
        self.end_scores = weight("end_scores", self.num_tags)

    def log_likelihood(self, scores, tag_ids, mask):
        """float32 `[batch]`, `log p(y | P)`; 0 for a row without a position.

        Args:
            scores: of each tag at each position.
            tag_ids: int `[batch, seq]`, `y`; anything where the mask is False.
            mask: which positions the sequence has.
        """
        scores, mask = self._prepare(scores, mask)
        log_p = self._path_score(scores, tag_ids, mask)
        log_p = log_p - _log_partition(scores, mask, *self._weights())
        return ops.where(ops.any(mask, axis=1), log_p, 0.0)

    def decode(self, scores, mask):
        """int32 `[batch, seq]`, the most probable sequence of tags, 0 where the mask is False.

        The algorithm of Viterbi; where several are equally good, one of them.
        """
        scores, mask = self._prepare(scores, mask)
        transitions, start, end = self._weights()
        batch, length = ops.shape(mask)
        _, best = _states(scores, mask, transitions, start, _greatest)  # [seq, batch, tags]
        into = ops.transpose(transitions)  # [to, from]
        mask = ops.transpose(mask)  # [seq, batch]

        def step(i, after, tag_ids):
            at = length - 1 - i
            best_before = ops.take(best, at, axis=0)  # [batch, tags]
            tag = ops.cast(ops.top_k(best_before + after, 1)[1], "int32")  # TFLite has no argmax
            tag = ops.squeeze(tag, -1)
            is_part = ops.take(mask, at, axis=0)
            after = ops.where(ops.expand_dims(is_part, 1), ops.take(into, tag, axis=0), after)
            tag = ops.where(is_part, tag, 0)
            return i + 1, after, ops.slice_update(tag_ids, (at, 0), ops.expand_dims(tag, 0))

        state = (0, _first_state(end, scores), ops.zeros((length, batch), "int32"))
        return ops.transpose(ops.while_loop(lambda i, *_: i < length, step, state)[-1])

    def marginals(self, scores, mask):
        """float32 `[batch, seq, tags]`, `p(yₜ | P)`, 0 where the mask is False."""
        scores, mask = self._prepare(scores, mask)
        transitions, start, end = self._weights()
        _, forward = _states(scores, mask, transitions, start, ops.logsumexp)
        backward = _backward_states(scores, mask, transitions, end)
        return _marginals(scores, mask, forward, backward)

    def _prepare(self, scores, mask):
        if scores.shape[-1] != self.num_tags:
            raise ValueError(
                f"scores must be [batch, seq, {self.num_tags}], got {tuple(scores.shape)}"
            )
        mask = ops.cast(mask, "bool")
        return ops.where(ops.expand_dims(mask, -1), ops.cast(scores, "float32"), 0.0), mask

    def _weights(self):
        """Their values, as `custom_gradient` takes no variables."""
        return [ops.copy(w) for w in (self.transitions, self.start_scores, self.end_scores)]

    def _path_score(self, scores, tag_ids, mask):
        """`s(y)`, `[batch]`."""
        transitions, start, end = self._weights()
        length = ops.shape(mask)[1]
        tag_ids = ops.where(mask, ops.cast(tag_ids, "int32"), 0)
        emissions = ops.sum(scores * ops.one_hot(tag_ids, self.num_tags), axis=(1, 2))

        # The positions of the sequence, moved to the front.
        position = ops.expand_dims(ops.arange(length), 0)
        order = ops.argsort(ops.where(mask, position, position + length), axis=1)
        tag_ids = ops.take_along_axis(tag_ids, order, axis=1)
        count = ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)

        pairs = tag_ids[:, :-1] * self.num_tags + tag_ids[:, 1:]
        steps = ops.take(ops.reshape(transitions, (-1,)), pairs)  # [batch, seq - 1]
        steps = ops.sum(ops.where(position[:, 1:] < count, steps, 0.0), axis=1)
        ends = ops.where(position == 0, ops.take(start, tag_ids), 0.0)
        ends += ops.where(position == count - 1, ops.take(end, tag_ids), 0.0)
        return emissions + steps + ops.sum(ends, axis=1)

    def get_config(self):
        return {**super().get_config(), "num_tags": self.num_tags}


def _log_partition(scores, mask, transitions, start, end):
    """`log Σ exp s(y)`, `[batch]`.

    Its gradient is what is expected of `y`, and is computed so: JAX has none of a `while_loop`,
    and TensorFlow none that XLA compiles.
    """

    @ops.custom_gradient
    def log_partition(scores, transitions, start, end):
        last, forward = _states(scores, mask, transitions, start, ops.logsumexp)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream  # [batch]
            backward = _backward_states(scores, mask, transitions, end)
            tags = _marginals(scores, mask, forward, backward)
            tags = tags * ops.reshape(upstream, (-1, 1, 1))

            is_first = _is_first(mask)
            is_last = ops.flip(_is_first(ops.flip(mask, 1)), 1)
            starts, ends = (
                ops.sum(ops.where(ops.expand_dims(here, 2), tags, 0.0), axis=(0, 1))
                for here in (is_first, is_last)
            )

            before = ops.expand_dims(_first_state(start, scores), 0)
            before = ops.concatenate([before, forward], axis=0)[:-1]
            pairs = ops.expand_dims(before, 3) + transitions + ops.expand_dims(backward, 2)
            batch, length, num_tags = ops.shape(scores)
            pairs = ops.reshape(pairs, (length, batch, num_tags * num_tags))  # (from, to)
            pairs = ops.softmax(pairs, axis=-1)
            goes_on = ops.transpose(ops.logical_and(mask, ops.logical_not(is_first)))
            weight = ops.where(goes_on, ops.expand_dims(upstream, 0), 0.0)  # [seq, batch]
            steps = ops.sum(ops.expand_dims(weight, 2) * pairs, axis=(0, 1))
            return tags, ops.reshape(steps, (num_tags, num_tags)), starts, ends

        return ops.logsumexp(last + end, axis=-1), gradient

    return log_partition(scores, transitions, start, end)


def _marginals(scores, mask, forward, backward):
    """`p(yₜ | P)`: both ways hold the scores of the position itself."""
    log_p = ops.transpose(forward + backward, (1, 0, 2)) - scores
    return ops.where(ops.expand_dims(mask, 2), ops.softmax(log_p, axis=-1), 0.0)


def _backward_states(scores, mask, transitions, end):
    """What goes backward is what goes forward through the reversed sequence."""
    scores, mask = ops.flip(scores, 1), ops.flip(mask, 1)
    _, states = _states(scores, mask, ops.transpose(transitions), end, ops.logsumexp)
    return ops.flip(states, 0)


def _states(scores, mask, transitions, start, combine):
    """The last state, `[batch, tags]`, and the state after each position, `[seq, batch, tags]`.

    The state holds, for each tag, what has been combined, by sum or maximum, of the scores of all
    beginnings of `y` that end in it. Before the first position it is the start scores; past a
    masked one it is carried.

    A `while_loop` that fills an array: TFLite has no lists of tensors with a free batch size,
    which `scan` would make.
    """
    is_part = ops.expand_dims(ops.transpose(mask), 2)
    is_first = ops.expand_dims(ops.transpose(_is_first(mask)), 2)
    length = ops.shape(scores)[1]
    scores_of_step = ops.transpose(scores, (1, 0, 2))  # [seq, batch, tags]

    def step(i, state, states):
        here, here_first = ops.take(is_part, i, axis=0), ops.take(is_first, i, axis=0)
        moved = combine(ops.expand_dims(state, 2) + transitions, axis=1)  # over [batch, from, to]
        moved = ops.where(here_first, state, moved) + ops.take(scores_of_step, i, axis=0)
        state = ops.where(here, moved, state)
        return i + 1, state, ops.slice_update(states, (i, 0, 0), ops.expand_dims(state, 0))

    state = (0, _first_state(start, scores), ops.zeros_like(scores_of_step))
    return ops.while_loop(lambda i, *_: i < length, step, state)[1:]


def _first_state(start, scores):
    batch, _, num_tags = ops.shape(scores)
    return ops.broadcast_to(start, (batch, num_tags))


def _is_first(mask):
    """Which positions are the first of their row, `[batch, seq]`."""
    return ops.logical_and(mask, ops.cumsum(ops.cast(mask, "int32"), axis=1) == 1)
