"""Beam search: the most probable sequences, not only the most probable next token."""

import numpy as np
from keras import ops

from lingxi.generation.decoder import Decoder
from lingxi.layers.gather import pick

LOW = -1e9
GROUP = 64  # scores


class BeamSearch(Decoder):
    """Keeps the `beams` best unfinished and the `beams` best finished sequences of each example.

    A finished sequence competes with `log P` divided by its length penalty. Tokens, scores and
    the end of the search are those of `transformers`.
    """

    def __init__(self, model, options, stop_table=None):
        super().__init__(model, options, stop_table)
        if options.beams > self.vocab_size:
            raise ValueError(
                f"beams={options.beams} is more than the {self.vocab_size} tokens of the vocabulary"
            )
        # So many that enough unfinished ones are left, should all others end.
        enough = max(2, 1 + len(self.eos_ids)) * options.beams
        self.candidates = min(enough, options.beams * self.vocab_size)

    def prepare(self, state, hidden):
        batch = ops.shape(state["tokens"])[0]
        scores = ops.full((batch, self.rows), LOW, "float32")
        first = ops.arange(self.rows) == 0  # all rows are equal as yet: only one counts
        return {
            **state,
            "scores": ops.where(first, 0.0, scores),
            "finished_scores": scores,
            "finished_tokens": state["tokens"],
            "finished_log_probs": state["log_probs"],
            "finished_lengths": state["lengths"],
            "improvable": ops.ones((batch, 1), "bool"),
            "over": ops.zeros((), "bool"),
        }

    def unfinished(self, state):
        return ops.logical_and(state["step"] < state["limit"], ops.logical_not(state["over"]))

    def choose(self, state, logits):
        step = state["step"]
        grown = self._grown(state, logits)
        ended = self.ends(grown["token"], grown.get("stop"))
        ended = ops.logical_or(ended, step + 1 >= state["limit"])
        state = self._finish(state, grown, ended)

        # The best that have not ended go on.
        scores, best = ops.top_k(grown["scores"] + LOW * ops.cast(ended, "float32"), self.rows)
        running = {name: pick(values, best) for name, values in grown.items()}
        rows = ops.expand_dims(ops.arange(self.rows), 0)
        state |= {
            "scores": scores,
            "tokens": running["tokens"],
            "log_probs": running["log_probs"],
            "ancestors": self._written(running["ancestors"], step, rows),
            "lengths": ops.zeros_like(state["lengths"]) + step + 1,
            "step": step + 1,
        }
        if self.stop_table is not None:
            state["stop"] = running["stop"]
        state["improvable"] = ops.logical_and(state["improvable"], self._may_improve(state))
        full = ops.logical_and(ops.all(state["finished"]), self.options.early_stopping is True)
        state["over"] = ops.any(ops.stack([~ops.any(state["improvable"]), full, ops.all(ended)]))
        return state

    def result(self, state):
        return {
            "token_ids": state["finished_tokens"][:, : self.options.num_results],
            "lengths": state["finished_lengths"][:, : self.options.num_results],
            "log_probs": state["finished_log_probs"][:, : self.options.num_results],
            "scores": state["finished_scores"][:, : self.options.num_results],
        }

    def _grown(self, state, logits):
        """The best continuations of all rows, `[batch, candidates, …]`."""
        log_probs = ops.log_softmax(logits)
        scores = self.constrained(state, log_probs)  # [batch, rows, vocab]
        count = min(self.candidates, self.vocab_size)
        scores, tokens = best_of_rows(scores, count)  # [batch, rows, count]
        scores = scores + ops.expand_dims(state["scores"], 2)
        batch = ops.shape(scores)[0]
        scores, places = ops.top_k(ops.reshape(scores, (batch, -1)), self.candidates)
        token = pick(ops.reshape(tokens, (batch, -1)), places)
        parent = ops.cast(places, "int32") // count  # [batch, candidates]

        flat = ops.reshape(log_probs, (batch, -1))
        log_prob = pick(flat, parent * self.vocab_size + token)
        step = state["step"]
        grown = {
            "scores": scores,
            "token": token,
            "tokens": self._written(pick(state["tokens"], parent), step, token),
            "log_probs": self._written(pick(state["log_probs"], parent), step, log_prob),
            "ancestors": pick(state["ancestors"], parent),
        }
        if self.stop_table is not None:
            grown["stop"] = self.next_stop(pick(state["stop"], parent), token)
        return grown

    def _finish(self, state, grown, ended):
        """The best of what had finished and of what now ends among the first `beams`."""
        just = ops.logical_and(ended, ops.arange(self.candidates) < self.rows)
        full = ops.logical_and(
            ops.all(state["finished"], axis=1, keepdims=True), self.options.early_stopping is True
        )
        excluded = ops.stack(
            [
                ~just,
                ops.broadcast_to(full, ops.shape(just)),
                ops.broadcast_to(~state["improvable"], ops.shape(just)),
            ]
        )
        length = state["step"] + 1
        scores = grown["scores"] / self._penalty(length)
        scores = scores + LOW * ops.sum(ops.cast(excluded, "float32"), axis=0)
        lengths = ops.zeros_like(grown["token"]) + length
        scores, best = ops.top_k(
            ops.concatenate([state["finished_scores"], scores], axis=1), self.rows
        )

        def merged(name, new):
            return pick(ops.concatenate([state[name], new], axis=1), best)

        return {
            **state,
            "finished_scores": scores,
            "finished_tokens": merged("finished_tokens", grown["tokens"]),
            "finished_log_probs": merged("finished_log_probs", grown["log_probs"]),
            "finished_lengths": merged("finished_lengths", lengths),
            "finished": merged("finished", just),
        }

    def _penalty(self, length):
        length = ops.cast(length, "float32")
        if self.options.length_penalty_form == "gnmt":
            length = (5.0 + length) / 6.0
        return length**self.options.length_penalty

    def _may_improve(self, state):
        """Whether a running sequence may yet become better than the finished ones: `[batch, 1]`."""
        length = state["step"]
        if self.options.early_stopping == "never" and self.options.length_penalty > 0:
            length = state["limit"]
        best = state["scores"][:, :1] / self._penalty(length)
        worst = ops.min(state["finished_scores"], axis=1, keepdims=True)
        worst = ops.where(state["finished"], worst, LOW)
        return ops.any(best > worst, axis=1, keepdims=True)


def best_of_rows(scores, count):
    """`ops.top_k` of `[batch, rows, vocab]`: scores and int32 ids, `[batch, rows, count]`.

    The best of a long row are among those groups of scores of which one score is the best: to find
    these reads the row once, where a search for the best of all compares each with those so far.
    """
    batch, rows, vocab_size = ops.shape(scores)
    if vocab_size < 8 * count * GROUP:
        scores, ids = ops.top_k(scores, count)
        return scores, ops.cast(ids, "int32")
    padding = -vocab_size % GROUP
    if padding:
        lowest = np.finfo("float32").min
        scores = ops.pad(scores, ((0, 0), (0, 0), (0, padding)), constant_values=lowest)
    groups = ops.reshape(scores, (batch * rows, (vocab_size + padding) // GROUP, GROUP))
    _, chosen = ops.top_k(ops.max(groups, axis=-1), count)  # [batch * rows, count]
    chosen = ops.sort(ops.cast(chosen, "int32"), axis=-1)  # of equal scores the first id wins
    among = ops.reshape(pick(groups, chosen), (batch * rows, count * GROUP))
    scores, places = ops.top_k(among, count)
    places = ops.cast(places, "int32")
    ids = pick(chosen, places // GROUP) * GROUP + places % GROUP
    return ops.reshape(scores, (batch, rows, count)), ops.reshape(ids, (batch, rows, count))
