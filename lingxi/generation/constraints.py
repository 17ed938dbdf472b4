"""What changes the scores of the next token before one is chosen."""

import numpy as np
from keras import ops

NEVER = -1e30  # finite, so that sums of scores are never NaN


class Constraints:
    """Penalties, bans and forced tokens, in the order of `transformers`.

    Args:
        options: `lingxi.generation.DecodingOptions`.
        eos_ids: tuple of the end tokens.
        vocab_size: tokens.
    """

    def __init__(self, options, eos_ids, vocab_size):
        self.options = options
        self.vocab_size = vocab_size
        sequences = [(ids,) if np.ndim(ids) == 0 else tuple(ids) for ids in options.banned]
        self._banned = self._among(ids[0] for ids in sequences if len(ids) == 1)
        self._banned_sequences = [ids for ids in sequences if len(ids) > 1]
        self._ends = self._among(eos_ids)

    def __call__(self, scores, history, real, step, limit):
        """Change scores.

        Args:
            scores: float32 `[batch, rows, vocab]`, logits or log-probabilities.
            history: int `[batch, rows, past]`: padding, the prompt, and the tokens made.
            real: bool `[batch, rows, past]`, False for padding.
            step: int scalar: the next token is number `step`, from 0.
            limit: int scalar: so many tokens will be made at most.
        """
        o = self.options
        if o.repetition_penalty != 1.0:
            seen = self._count(history, real) > 0
            penalized = scores * o.repetition_penalty
            penalized = ops.where(scores < 0, penalized, scores / o.repetition_penalty)
            scores = ops.where(seen, penalized, scores)
        if o.no_repeat_ngram:
            scores = ops.where(self._repeated(o.no_repeat_ngram, history, real), NEVER, scores)
        for ids in self._banned_sequences:
            scores = ops.where(self._completed(ids, history, real), NEVER, scores)
        if self._banned.any():
            scores = ops.where(self._banned, NEVER, scores)
        if o.min_tokens and self._ends.any():
            scores = ops.where(ops.logical_and(self._ends, step < o.min_tokens), NEVER, scores)
        for index, token in enumerate(o.prefix):
            scores = self._forced(scores, token, step == index)
        if o.last_token is not None:
            scores = self._forced(scores, o.last_token, step == limit - 1)
        return scores

    def _among(self, ids):
        """bool `[vocab]`, True for `ids`."""
        ids = list(ids)
        wrong = [i for i in ids if not 0 <= i < self.vocab_size]
        if wrong:
            raise ValueError(
                f"token ids {wrong[:10]} are outside the vocabulary of {self.vocab_size}"
            )
        chosen = np.zeros(self.vocab_size, "bool")
        chosen[ids] = True
        return chosen

    def _count(self, ids, weights):
        """How often each token is among `ids` `[batch, rows, n]`: `[batch, rows, vocab]`."""
        batch, rows, count = ops.shape(ids)
        row = ops.expand_dims(ops.arange(batch * rows, dtype="int32") * self.vocab_size, 1)
        place = row + ops.reshape(ops.cast(ids, "int32"), (batch * rows, count))
        total = ops.scatter(
            ops.reshape(place, (-1, 1)),
            ops.reshape(ops.cast(weights, "float32"), (-1,)),
            (batch * rows * self.vocab_size,),
        )
        return ops.reshape(total, (batch, rows, self.vocab_size))

    def _repeated(self, size, history, real):
        """Tokens that would complete a sequence of `size` tokens that has been: `[…, vocab]`."""
        behind = size - 1
        matches = real[:, :, :-behind] if behind else real  # [batch, rows, windows]
        for index in range(behind):
            last = history[:, :, index - behind : index - behind + 1 or None]
            window = history[:, :, index : index - behind]
            matches = ops.logical_and(matches, window == last)
        return self._count(history[:, :, behind:], matches) > 0

    def _completed(self, ids, history, real):
        """Tokens that would complete the sequence `ids`: `[batch, rows, vocab]`."""
        behind = len(ids) - 1
        same = history[:, :, -behind:] == np.array(ids[:-1], "int32")
        same = ops.logical_and(same, real[:, :, -behind:])
        return ops.logical_and(ops.all(same, axis=2, keepdims=True), self._among(ids[-1:]))

    def _forced(self, scores, token, now):
        """Where `now`, only `token` may come, with a score of 0."""
        only = np.where(self._among([token]), 0.0, NEVER).astype("float32")
        return ops.where(now, only, scores)
