"""Speculative decoding (Leviathan et al. 2023): guess several tokens, read them all at once.

What the model itself would have taken is kept, so the output is that of greedy decoding; a good
guess saves a reading of all weights for each of its tokens.
"""

from keras import ops

from lingxi.generation.cached_model import CachedModel
from lingxi.generation.decoder import Decoder, log_probability
from lingxi.generation.options import DecodingOptions
from lingxi.generation.sampling import most_probable
from lingxi.layers.gather import pick


class SpeculativeDecoder(Decoder):
    """Greedy decoding of one example, with guesses.

    Args:
        model: a `lingxi.zoo` model with a token head.
        options: `lingxi.generation.DecodingOptions` of greedy decoding, without penalties or bans.
        draft: a smaller model of the same vocabulary that guesses; without one, what followed the
            last occurrence of the same tokens, in the prompt or since ("prompt lookup").
        guesses: how many tokens are guessed at a time.
        stop_table: as in `Decoder`.

    Raises:
        ValueError: the options are not greedy, or the draft has another vocabulary.
    """

    def __init__(self, model, options, draft=None, guesses=4, stop_table=None):
        super().__init__(model, options, stop_table)
        plain = DecodingOptions(options.max_tokens, eos_id=options.eos_id, pad_id=options.pad_id)
        if options != plain:
            raise ValueError(
                "speculative decoding is greedy decoding without penalties, bans or beams, "
                f"got {options}"
            )
        if draft is not None and draft.config.vocab_size != model.config.vocab_size:
            raise ValueError(
                f"the draft has {draft.config.vocab_size} tokens, the model "
                f"{model.config.vocab_size}; they must share a vocabulary"
            )
        self.guesses = guesses
        self.draft = None if draft is None else CachedModel(draft)
        self.most = options.max_tokens
        self.steps = options.max_tokens + guesses  # room for guesses behind the last token

    def start(self, inputs, max_tokens=None, temperature=None, top_p=None, uniform=None):
        limit = self.most if max_tokens is None else ops.minimum(max_tokens, self.most)
        state = super().start(inputs, limit)
        if self.draft is not None:
            state["draft"] = self.draft.start(inputs, 1, self.steps)[1]
        return {**state, "calls": ops.ones((), "int32")}

    def advance(self, state):
        """Read the last token and the guesses after it; keep what the model would have taken."""
        step, n = state["step"], self.guesses
        guessed, state = self._guess(state)  # [1, n]
        last = ops.slice(state["tokens"][:, 0], (0, step - 1), (1, 1))
        hidden, model_state = self.model.read(
            state["model"], ops.concatenate([last, guessed], axis=1), step - 1
        )
        logits = self.model.logits(hidden)  # [1, n + 1, vocab]
        token = most_probable(logits)  # [1, n + 1]: what follows each
        log_prob = log_probability(logits, token)
        right = ops.cast(token[:, :n] == guessed, "int32")
        accepted = ops.sum(ops.cumprod(right, axis=1))
        count = ops.minimum(accepted + 1, state["limit"] - step)

        stop, ended = self._ends_at(token, state)  # [1, n + 1]
        first_end = ops.min(ops.where(ended, ops.arange(n + 1), n + 1))
        finished = first_end < count
        count = ops.minimum(count, first_end + 1)
        kept = ops.arange(n + 1) < count
        token = ops.where(kept, token, self.pad_id)
        log_prob = ops.where(kept, log_prob, 0.0)
        place = (0, 0, step)
        state = {
            **state,
            "model": model_state,
            "tokens": ops.slice_update(state["tokens"], place, ops.expand_dims(token, 1)),
            "log_probs": ops.slice_update(state["log_probs"], place, ops.expand_dims(log_prob, 1)),
            "step": step + count,
            "lengths": ops.reshape(step + count, (1, 1)),
            "finished": ops.reshape(finished, (1, 1)),
            "calls": state["calls"] + 1,
        }
        if self.stop_table is not None:
            state["stop"] = ops.slice(stop, (0, count - 1), (1, 1))
        return state

    def result(self, state):
        """As of `Decoder`, and `calls`: how often the model was called."""
        made = super().result(state)
        for name in ("token_ids", "log_probs"):
            made[name] = made[name][:, :, : self.most]
        return {**made, "calls": state["calls"]}

    def _ends_at(self, token, state):
        """After each of `token` `[1, n]`: where in the stop strings, and whether it ends there."""
        if self.stop_table is None:
            return None, self.ends(token, None)
        stops, stop = [], state["stop"]
        for index in range(token.shape[1]):
            stop = self.next_stop(stop, token[:, index : index + 1])
            stops.append(stop)
        stop = ops.concatenate(stops, axis=1)
        return stop, self.ends(token, stop)

    def _guess(self, state):
        if self.draft is None:
            return self._looked_up(state), state
        step, n = state["step"], self.guesses
        # The draft reads again what may have been decided since its last guess.
        first = ops.maximum(step - 1 - n, 0)
        recent = ops.slice(state["tokens"][:, 0], (0, first), (1, n + 1))
        hidden, draft = self.draft.read(state["draft"], recent, first)
        hidden = pick(hidden, ops.reshape(step - 1 - first, (1, 1)))
        guessed = [most_probable(self.draft.logits(hidden))]  # [1, 1] each
        for index in range(n - 1):
            hidden, draft = self.draft.read(draft, guessed[-1], step + index)
            guessed.append(most_probable(self.draft.logits(hidden)))
        return ops.concatenate(guessed, axis=1), {**state, "draft": draft}

    def _looked_up(self, state):
        """What followed the last occurrence of the last two tokens, else of the last one."""
        model_state, n = state["model"], self.guesses
        past = ops.concatenate([model_state["prompt_ids"], state["tokens"][:, 0]], axis=1)
        length = ops.shape(model_state["prompt_ids"])[1] + state["step"]
        last = ops.slice(past, (0, length - 1), (1, 1))
        index = ops.expand_dims(ops.arange(ops.shape(past)[1]), 0)
        same = ops.logical_and(past == last, index < length - 1)
        before = ops.concatenate([ops.full((1, 1), -1, "int32"), past[:, :-1]], axis=1)
        last_before = ops.slice(before, (0, length - 1), (1, 1))
        both = ops.logical_and(same, before == last_before)
        place = ops.max(ops.where(both, 2 * index + 2, 0))  # two tokens beat one
        place = ops.where(place > 0, place // 2, ops.max(ops.where(same, index + 1, 0)))
        padded = ops.concatenate([past, ops.full((1, n), self.pad_id, "int32")], axis=1)
        return ops.slice(padded, (0, place), (1, n))
