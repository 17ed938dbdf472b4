"""Contrastive search (Su et al. 2022, "A Contrastive Framework for Neural Text Generation")."""

from keras import ops

from lingxi.generation.decoder import Decoder, log_probability
from lingxi.layers.gather import pick


class ContrastiveSearch(Decoder):
    """Takes the candidate that is probable and unlike everything before it.

    `x = argmax (1 - α) p(v) - α max_j cos(h_v, h_j)` over the `top_k` most probable tokens `v`
    (equation 5): all are read at once, the others' places in the cache are never looked at again.
    """

    def __init__(self, model, options, stop_table=None):
        super().__init__(model, options, stop_table)
        self.rows = 1

    def prepare(self, state, hidden):
        batch, _, width = ops.shape(hidden)
        room = ops.zeros((batch, self.steps, width), hidden.dtype)
        mask = ops.concatenate(
            [state["model"]["prompt_mask"], ops.zeros((batch, self.steps), "bool")], axis=1
        )
        context = ops.concatenate([_unit(hidden), room], axis=1)
        return {**state, "context": context, "context_mask": mask}

    def choose(self, state, logits):
        """The candidates for the next token, from `logits` `[batch, 1, vocab]`."""
        scores = self.constrained(state, logits)[:, 0]  # [batch, vocab]
        probabilities, candidates = ops.top_k(ops.softmax(scores), self.queries)
        candidates = ops.cast(candidates, "int32")
        repeated = ops.tile(logits, (1, self.queries, 1))
        return {
            **state,
            "candidates": candidates,
            "probabilities": probabilities,
            "candidate_log_probs": log_probability(repeated, candidates),
        }

    def advance(self, state):
        """Read the candidates, and keep the best."""
        step, alpha = state["step"], self.options.contrastive_alpha
        every = ops.repeat(state["ancestors"], self.queries, axis=1)
        own = ops.expand_dims(ops.arange(self.queries), 0)
        hidden, model_state = self.model.step(
            state["model"], state["candidates"], self._written(every, step, own), step
        )
        likeness = ops.matmul(_unit(hidden), ops.transpose(state["context"], (0, 2, 1)))
        likeness = ops.where(ops.expand_dims(state["context_mask"], 1), likeness, -1.0)
        penalty = ops.max(likeness, axis=2)  # [batch, candidates]
        value = (1.0 - alpha) * state["probabilities"] - alpha * penalty
        best = ops.cast(ops.top_k(value, 1)[1], "int32")  # [batch, 1]

        finished = state["finished"]
        token = ops.where(finished, self.pad_id, pick(state["candidates"], best))
        log_prob = ops.where(finished, 0.0, pick(state["candidate_log_probs"], best))
        state = {
            **state,
            "model": model_state,
            "tokens": self._written(state["tokens"], step, token),
            "log_probs": self._written(state["log_probs"], step, log_prob),
            "ancestors": self._written(state["ancestors"], step, best),
            "lengths": ops.where(finished, state["lengths"], step + 1),
            "step": step + 1,
        }
        if self.stop_table is not None:
            state["stop"] = self.next_stop(state["stop"], token)
        state["finished"] = ops.logical_or(finished, self.ends(token, state.get("stop")))

        chosen = pick(hidden, best)  # [batch, 1, hidden]
        length = ops.shape(model_state["prompt_ids"])[1]
        place = ops.expand_dims(ops.arange(length + self.steps) == length + step, 0)
        state["context_mask"] = ops.logical_or(state["context_mask"], place)
        state["context"] = ops.where(ops.expand_dims(place, 2), _unit(chosen), state["context"])
        return self.choose(state, self.model.logits(chosen))


def _unit(vectors):
    """`[…, hidden]` of length 1."""
    return vectors * ops.rsqrt(ops.sum(ops.square(vectors), axis=-1, keepdims=True) + 1e-12)
