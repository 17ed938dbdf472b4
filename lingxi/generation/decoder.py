"""The decoding loop: tokens one after the other, with static shapes and an explicit cache."""

from keras import ops

from lingxi.generation.cached_model import CachedModel
from lingxi.generation.constraints import Constraints
from lingxi.generation.sampling import draw, most_probable
from lingxi.layers.gather import pick


class Decoder:
    """Greedy decoding, or sampling: every row of an example goes its own way.

    Call it with what the model takes, inside a compiled function; or call `start` and then, while
    `unfinished`, `advance`: each call makes one more token, and `result` tells what there is.

    Args:
        model: a `lingxi.zoo` model with a token head.
        options: `lingxi.generation.DecodingOptions`.
        stop_table: int `[states, vocab]` from `lingxi.generation.stop_table`, or None.

    The state is a dict of tensors, which a caller may keep anywhere between two steps.
    """

    def __init__(self, model, options, stop_table=None):
        config = model.config
        self.model = CachedModel(model)
        self.options = options
        self.steps = options.max_tokens
        self.queries = options.rows  # tokens of one example that a step reads
        self.rows = self.queries  # sequences of one example that are kept
        self.vocab_size = model.target_vocab_size
        self.eos_ids = _eos_ids(options, config)
        self.pad_id = _pad_id(options, config, self.eos_ids)
        self.stop_table = stop_table
        self.constraints = Constraints(options, self.eos_ids, self.vocab_size)

    def __call__(self, inputs, max_tokens=None, temperature=None, top_p=None, uniform=None):
        """All tokens.

        Args:
            inputs: dict of tensors, as `lingxi.generation.CachedModel.start` takes them.
            max_tokens: int scalar, at most that of the options, which is the default.
            temperature, top_p: float scalars in place of those of the options.
            uniform: float32 `[batch, rows, max_tokens]` in [0, 1), of which sampling needs one for
                each token.

        Returns:
            A dict: `token_ids` int32 `[batch, results, max_tokens]`, with the end token, then
            padding; `lengths` int32 `[batch, results]`; `log_probs` float32, the model's own of
            each token; `scores` float32 `[batch, results]`: of beams what they were compared by,
            else the sum of the log-probabilities.
        """
        state = self.start(inputs, max_tokens, temperature, top_p, uniform)
        state = ops.while_loop(self.unfinished, self.advance, state)
        return self.result(state)

    def start(self, inputs, max_tokens=None, temperature=None, top_p=None, uniform=None):
        """Read the prompts and choose the first token; arguments as in a call."""
        hidden, model_state = self.model.start(inputs, self.queries, self.steps)
        logits = ops.expand_dims(self.model.logits(hidden[:, -1]), 1)  # [batch, 1, vocab]
        logits = ops.tile(logits, (1, self.rows, 1))
        shape = (ops.shape(logits)[0], self.rows, self.steps)
        limit = self.steps if max_tokens is None else ops.minimum(max_tokens, self.steps)
        state = {
            "model": model_state,
            "step": ops.zeros((), "int32"),
            "limit": ops.cast(limit, "int32"),
            "tokens": ops.full(shape, self.pad_id, "int32"),
            "log_probs": ops.zeros(shape, "float32"),
            "ancestors": ops.zeros(shape, "int32"),
            "lengths": ops.zeros(shape[:2], "int32"),
            "finished": ops.zeros(shape[:2], "bool"),
        }
        if self.stop_table is not None:
            state["stop"] = ops.zeros(shape[:2], "int32")
        if self.options.temperature:
            temperature = self.options.temperature if temperature is None else temperature
            state["temperature"] = ops.cast(temperature, "float32")
            state["top_p"] = ops.cast(self.options.top_p if top_p is None else top_p, "float32")
            state["uniform"] = uniform
        return self.choose(self.prepare(state, hidden), logits)

    def prepare(self, state, hidden):
        """What a subclass adds to the state; `hidden` is that of the prompt's tokens."""
        return state

    def unfinished(self, state):
        """bool scalar: whether a further token is to be made."""
        return ops.logical_and(
            state["step"] < state["limit"], ops.logical_not(ops.all(state["finished"]))
        )

    def advance(self, state):
        """Read the tokens chosen last and choose the next."""
        last = self._at(state["tokens"], state["step"] - 1)
        hidden, model_state = self.model.step(
            state["model"], last, state["ancestors"], state["step"] - 1
        )
        return self.choose({**state, "model": model_state}, self.model.logits(hidden))

    def choose(self, state, logits):
        """The next token of every row, from `logits` `[batch, rows, vocab]`."""
        scores = self.constrained(state, logits)
        if not self.options.temperature:
            token = most_probable(scores)
        else:
            uniform = self._at(state["uniform"], state["step"])
            temperature, top_p = state["temperature"], state["top_p"]
            token = ops.cond(
                temperature > 0.0,
                lambda: draw(scores, self.options, temperature, top_p, uniform),
                lambda: most_probable(scores),
            )
        log_prob = log_probability(logits, token)
        finished = state["finished"]
        token = ops.where(finished, self.pad_id, token)
        state = {
            **state,
            "tokens": self._written(state["tokens"], state["step"], token),
            "log_probs": self._written(
                state["log_probs"], state["step"], ops.where(finished, 0.0, log_prob)
            ),
            "ancestors": self._written(
                state["ancestors"], state["step"], ops.expand_dims(ops.arange(self.rows), 0)
            ),
            "lengths": ops.where(finished, state["lengths"], state["step"] + 1),
        }
        if self.stop_table is not None:
            state["stop"] = self.next_stop(state["stop"], token)
        ended = ops.logical_or(finished, self.ends(token, state.get("stop")))
        return {**state, "finished": ended, "step": state["step"] + 1}

    def result(self, state):
        """What a call returns."""
        return {
            "token_ids": state["tokens"],
            "lengths": state["lengths"],
            "log_probs": state["log_probs"],
            "scores": ops.sum(state["log_probs"], axis=-1),
        }

    # What subclasses build on

    def constrained(self, state, scores):
        """`scores` `[batch, rows, vocab]` after all penalties, bans and forced tokens."""
        step, model_state = state["step"], state["model"]
        prompt = model_state["prompt_ids"]
        batch, length = ops.shape(prompt)
        prompt = ops.repeat(ops.expand_dims(prompt, 1), self.rows, axis=1)
        before = ops.zeros((batch, self.rows, self.steps), "int32")
        past = ops.concatenate([before, ops.cast(prompt, "int32"), state["tokens"]], axis=2)
        history = ops.slice(past, (0, 0, step), (batch, self.rows, length + self.steps))
        count = model_state["prompt_lengths"] + step  # [batch, 1]
        column = ops.expand_dims(ops.arange(length + self.steps), 0)
        real = column >= length + self.steps - count  # [batch, past]
        real = ops.repeat(ops.expand_dims(real, 1), self.rows, axis=1)
        return self.constraints(scores, history, real, step, state["limit"])

    def next_stop(self, stop, token):
        """Where in the stop strings each row is after `token`."""
        return ops.take(ops.reshape(self.stop_table, (-1,)), stop * self.vocab_size + token)

    def ends(self, token, stop):
        """Whether a row ends with `token`, by itself or by completing a stop string."""
        ended = ops.zeros_like(token, "bool")
        for eos_id in self.eos_ids:
            ended = ops.logical_or(ended, token == eos_id)
        if self.stop_table is not None:
            ended = ops.logical_or(ended, stop == self.stop_table.shape[0] - 1)
        return ended

    def _at(self, values, step):
        """`values[:, :, step]`."""
        return ops.sum(ops.where(ops.arange(self.steps) == step, values, 0), axis=2)

    def _written(self, values, step, column):
        """`values` `[batch, rows, steps]` with `column` `[batch, rows]` at `step`."""
        return ops.where(ops.arange(self.steps) == step, ops.expand_dims(column, 2), values)


def log_probability(logits, token):
    """float32 `[batch, rows]`: of `token` `[batch, rows]` under `logits` `[batch, rows, vocab]`."""
    batch, rows, vocab_size = ops.shape(logits)
    logits = logits - ops.max(logits, axis=-1, keepdims=True)  # keeps the digits of a sure token
    flat = ops.reshape(logits, (batch * rows, vocab_size))
    chosen = pick(flat, ops.reshape(token, (batch * rows, 1)))
    chosen = ops.reshape(chosen, (batch, rows))
    return chosen - ops.log(ops.sum(ops.exp(logits), axis=-1))


def _eos_ids(options, config):
    eos_id = options.eos_id if options.eos_id is not None else getattr(config, "eos_id", None)
    if eos_id is None:
        return ()
    return tuple(eos_id) if isinstance(eos_id, (tuple, list)) else (eos_id,)


def _pad_id(options, config, eos_ids):
    pad_id = options.pad_id if options.pad_id is not None else getattr(config, "pad_id", None)
    if pad_id is None:
        pad_id = eos_ids[0] if eos_ids else 0
    return pad_id
