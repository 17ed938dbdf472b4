"""A model of the zoo as a decoding loop sees it: read a prompt, then some tokens at a time.

The cache has one slot for every token of the prompt, then `rows` slots for every step: the tokens
of all hypotheses of one step stand side by side, and a hypothesis sees the slots of its own
ancestors. So hypotheses share the prompt and the encoder's keys, they are the queries of one call,
and nothing is copied when a beam search drops some and splits others.
"""

from keras import ops

from lingxi.layers.gather import pick
from lingxi.zoo import Gpt


class CachedModel:
    """`start` reads the prompts; each `step` reads one token of every hypothesis.

    Args:
        model: a `lingxi.zoo` model with a token head.
    """

    def __init__(self, model):
        self.model = model
        self.has_encoder = not isinstance(model, Gpt)

    def prompt(self, inputs):
        """Ids int `[batch, prompt]` and mask, as the decoder reads them: padding on the left."""
        if self.has_encoder:
            batch = ops.shape(inputs["encoder_token_ids"])[0]
            token_ids = inputs.get("decoder_token_ids")
            if token_ids is None:
                token_ids = ops.full((batch, 1), self.model.config.decoder_start_id, "int32")
            return token_ids, ops.ones_like(token_ids, "bool")
        token_ids, mask = inputs["token_ids"], inputs.get("padding_mask")
        if mask is None:
            return token_ids, ops.ones_like(token_ids, "bool")
        length = ops.shape(token_ids)[1]
        column = ops.expand_dims(ops.arange(length), 0)  # [1, prompt]
        last = ops.max(ops.where(mask, column, 0), axis=1, keepdims=True)
        source = column + last - (length - 1)  # [batch, prompt]
        inside = ops.maximum(source, 0)
        mask = ops.logical_and(source >= 0, pick(mask, inside))
        return pick(token_ids, inside), mask

    def start(self, inputs, rows, steps):
        """Read the prompts.

        Args:
            inputs: what the model takes; of an encoder–decoder the inputs of the encoder, and
                `decoder_token_ids` `[batch, prompt]` if the output begins with given tokens.
            rows: hypotheses of one example.
            steps: how many times `step` may be called.

        Returns:
            `sequence_output` `[batch, prompt, hidden]`, and a dict to give to `step`.
        """
        token_ids, mask = self.prompt(inputs)
        length = ops.shape(token_ids)[1]
        real = ops.cast(mask, "int32")
        lengths = ops.sum(real, axis=1, keepdims=True)  # [batch, 1]
        positions = ops.maximum(ops.cumsum(real, axis=1) - 1, 0)  # [batch, prompt]
        later = ops.expand_dims(ops.repeat(ops.arange(steps), rows), 0)  # [1, steps * rows]
        state = {
            "prompt_ids": token_ids,
            "prompt_mask": mask,
            "prompt_lengths": lengths,
            "cache_positions": ops.concatenate([positions, lengths + later], axis=1),
        }
        batch, slots = ops.shape(state["cache_positions"])
        if self.has_encoder:
            cache = self.model.make_cache(self.model.encode(inputs), slots)
            if inputs.get("encoder_padding_mask") is not None:
                state["encoder_padding_mask"] = inputs["encoder_padding_mask"]
        else:
            cache = self.model.make_cache(batch, slots)
        row, column = ops.arange(length), ops.arange(slots)
        sees = ops.expand_dims(row, 1) >= ops.expand_dims(column, 0)  # [prompt, slots]
        real = ops.concatenate([mask, ops.zeros((batch, rows * steps), "bool")], axis=1)
        sees = ops.logical_and(ops.expand_dims(sees, 0), ops.expand_dims(real, 1))
        outputs = self._call(token_ids, positions, sees, state["cache_positions"], cache, 0, state)
        return outputs["sequence_output"], {**state, "cache": outputs["cache"]}

    def step(self, state, token_ids, ancestors, index):
        """Read one token of every hypothesis.

        Args:
            state: from `start`, or from the step before.
            token_ids: int `[batch, rows]`.
            ancestors: int `[batch, rows, steps]`: which row was, at each step, the one that a
                hypothesis descends from; at `index` itself.
            index: int scalar, counted from 0.

        Returns:
            `sequence_output` `[batch, rows, hidden]`, and the new state.
        """
        batch, rows, steps = ops.shape(ancestors)
        row = ops.reshape(ops.arange(rows), (1, 1, 1, rows))
        past = ops.reshape(ops.arange(steps) <= index, (1, 1, steps, 1))
        sees = ops.logical_and(ops.expand_dims(ancestors, 3) == row, past)
        sees = ops.reshape(sees, (batch, rows, steps * rows))
        positions = ops.tile(ops.reshape(index, (1, 1)), (1, rows))
        return self._step(state, token_ids, positions, sees, index * rows)

    def read(self, state, token_ids, index):
        """Read several tokens int `[batch, seq]` of one hypothesis, the first of them at `index`.

        Returns:
            `sequence_output` `[batch, seq, hidden]`, and the new state.
        """
        positions = ops.expand_dims(ops.arange(ops.shape(token_ids)[1]) + index, 0)  # [1, seq]
        steps = ops.shape(state["cache_positions"])[1] - ops.shape(state["prompt_ids"])[1]
        sees = ops.expand_dims(ops.arange(steps), 0) <= ops.reshape(positions, (-1, 1))
        config = self.model.config
        if getattr(config, "positions", "learned") == "learned" and hasattr(config, "max_length"):
            # A guess behind the last position reads that one: nothing of it is kept.
            positions = ops.minimum(positions, config.max_length - 1 - state["prompt_lengths"])
        return self._step(state, token_ids, positions, ops.expand_dims(sees, 0), index)

    def _step(self, state, token_ids, positions, sees, slot):
        """Write `token_ids` `[batch, n]` into the cache at `slot` behind the prompt."""
        prompt = ops.expand_dims(state["prompt_mask"], 1)  # [batch, 1, prompt]
        sees = ops.concatenate(
            [
                ops.logical_and(prompt, ops.ones_like(sees[:, :, :1])),
                ops.logical_and(sees, ops.ones_like(prompt[:, :, :1])),
            ],
            axis=2,
        )  # [batch, n, slots]
        outputs = self._call(
            token_ids,
            state["prompt_lengths"] + positions,
            sees,
            state["cache_positions"],
            state["cache"],
            ops.shape(state["prompt_ids"])[1] + slot,
            state,
        )
        shape = (*ops.shape(token_ids), self.model.config.hidden_dim)
        hidden = ops.reshape(outputs["sequence_output"], shape)  # tells TensorFlow the shape
        return hidden, {**state, "cache": outputs["cache"]}

    def logits(self, hidden):
        """float32 `[…, vocab]`."""
        return ops.cast(self.model.logits(hidden), "float32")

    def _call(self, token_ids, positions, sees, cache_positions, cache, index, state):
        inputs = {"token_ids": token_ids, "positions": positions, "attention_mask": sees}
        inputs["cache_positions"] = cache_positions
        if self.has_encoder:
            # Prompts of a decoder have no padding: all examples have the same positions.
            inputs |= {"positions": positions[:1], "cache_positions": cache_positions[:1]}
            inputs = {f"decoder_{name}": value for name, value in inputs.items()}
            inputs["encoder_padding_mask"] = state.get("encoder_padding_mask")
        return self.model(inputs, cache=cache, cache_index=index)
