"""Embeddings of tokens, positions and segments."""

import contextlib
import contextvars
import math

import keras
import numpy as np
from keras import ops

from lingxi.layers.decoding import tied_product

_CHANGE = contextvars.ContextVar("change", default=None)
_LOOKUPS = contextvars.ContextVar("lookups", default=None)


@contextlib.contextmanager
def changed_embeddings(function):
    """Within it, and within this thread, every `TokenEmbedding` gives what `function` makes of it.

    Args:
        function: of token ids int `[batch, seq]` and their embeddings `[batch, seq, hidden]`, to
            what stands for these.
    """
    token = _CHANGE.set(function)
    try:
        yield
    finally:
        _CHANGE.reset(token)


@contextlib.contextmanager
def replaced_lookups(functions):
    """Within it, and within this thread, some layers read their rows elsewhere than in their table.

    Args:
        functions: `{layer: function}` of `TokenEmbedding`s, each of token ids int `[batch, seq]`
            to their embeddings `[batch, seq, hidden]`.
    """
    token = _LOOKUPS.set(functions)
    try:
        yield
    finally:
        _LOOKUPS.reset(token)


@keras.saving.register_keras_serializable(package="lingxi")
class TokenEmbedding(keras.layers.Embedding):
    """One learned vector per token id: int `[batch, seq]` to `[batch, seq, hidden]`.

    The padding mask of lingxi is an explicit input of every model, so no Keras mask is attached.
    """

    def __init__(self, vocab_size, hidden_dim, embeddings_initializer="uniform", **kwargs):
        super().__init__(
            vocab_size, hidden_dim, embeddings_initializer=embeddings_initializer, **kwargs
        )

    def call(self, inputs):
        lookup = (_LOOKUPS.get() or {}).get(self, super().call)
        embeddings, change = lookup(inputs), _CHANGE.get()
        return embeddings if change is None else change(inputs, embeddings)

    def get_config(self):
        config = super().get_config()
        for name in ("input_dim", "output_dim", "mask_zero", "weights", "lora_rank", "lora_alpha"):
            config.pop(name, None)
        return {**config, "vocab_size": self.input_dim, "hidden_dim": self.output_dim}

    def logits(self, inputs):
        """`x Eᵀ`, the head tied to these embeddings: `[..., hidden]` to `[..., vocab]`."""
        leading = ops.shape(inputs)[:-1]
        rows = ops.reshape(inputs, (-1, self.output_dim))  # [batch * seq, hidden]
        table = ops.cast(self.embeddings, self.compute_dtype)
        return ops.reshape(tied_product(rows, table), (*leading, self.input_dim))


@keras.saving.register_keras_serializable(package="lingxi")
class SegmentEmbedding(keras.layers.Layer):
    """One learned vector per segment id: int `[batch, seq]` to `[batch, seq, hidden]`.

    The table has few rows, so it is a product with one-hot vectors: its gradient is a product
    too, where that of a lookup would add all tokens to the same rows one after the other.
    """

    def __init__(self, num_segments, hidden_dim, embeddings_initializer="uniform", **kwargs):
        super().__init__(**kwargs)
        self.num_segments = num_segments
        self.hidden_dim = hidden_dim
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)

    def build(self, inputs_shape):
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.num_segments, self.hidden_dim),
            initializer=self.embeddings_initializer,
        )

    def call(self, inputs):
        batch, length = ops.shape(inputs)
        segments = ops.one_hot(
            ops.reshape(inputs, (-1,)), self.num_segments, dtype=self.compute_dtype
        )
        rows = ops.matmul(segments, ops.cast(self.embeddings, self.compute_dtype))
        return ops.reshape(rows, (batch, length, self.hidden_dim))

    def compute_output_shape(self, inputs_shape):
        return (*inputs_shape, self.hidden_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "num_segments": self.num_segments,
            "hidden_dim": self.hidden_dim,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }


@keras.saving.register_keras_serializable(package="lingxi")
class PositionEmbedding(keras.layers.Layer):
    """One learned vector per position: rows of a table, by default the first `seq`.

    Input: token ids `[batch, seq]`. Output: `[1, seq, hidden]`, to be added to the token
    embeddings; with `positions` int `[batch, seq]` their rows, `[batch, seq, hidden]`.

    Args:
        max_length: positions.
        hidden_dim: width.
        embeddings_initializer: for the table.
        offset: rows of the table before that of position 0. BART never reads them; RoBERTa's
            padding reads the last, at position -1.

    Raises:
        ValueError: when called on more than `max_length` token ids, unless positions are given.
    """

    def __init__(
        self, max_length, hidden_dim, embeddings_initializer="uniform", offset=0, **kwargs
    ):
        super().__init__(**kwargs)
        self.max_length = max_length
        self.offset = offset
        self.hidden_dim = hidden_dim
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)

    def build(self, inputs_shape):
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.offset + self.max_length, self.hidden_dim),
            initializer=self.embeddings_initializer,
        )

    def call(self, inputs, positions=None):
        if positions is not None:
            table = ops.cast(self.embeddings, self.compute_dtype)
            return ops.take(table, positions + self.offset, axis=0)
        length = ops.shape(inputs)[1]
        self.check_length(length)
        # Adding a zero that depends on the ids keeps the positions from being a constant: TFLite
        # would fold the lookup of constants into a float32 table, where it quantizes this one.
        zero = ops.sum(ops.minimum(ops.cast(inputs, "int32"), 0), axis=0)  # [seq]
        positions = ops.arange(length, dtype="int32") + zero
        table = ops.convert_to_tensor(self.embeddings)
        table = ops.slice(table, (self.offset, 0), (length, self.hidden_dim))
        table = ops.cast(table, self.compute_dtype)
        return ops.expand_dims(ops.take(table, positions, axis=0), 0)

    def check_length(self, length):
        """Raise ValueError if there are more positions than `max_length`, as far as is known."""
        if isinstance(length, int) and length > self.max_length:
            raise ValueError(
                f"the input has {length} positions, but this model knows only {self.max_length}; "
                "shorten the text (the tokenizer's max_length) or take a longer model"
            )

    def compute_output_shape(self, inputs_shape):
        return (1, inputs_shape[1], self.hidden_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "max_length": self.max_length,
            "offset": self.offset,
            "hidden_dim": self.hidden_dim,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }


@keras.saving.register_keras_serializable(package="lingxi")
class SinusoidalPosition(keras.layers.Layer):
    """Fixed sines and cosines of the position (Vaswani et al. 2017, section 3.5).

    `PE(pos, 2i) = sin(pos / 10000^(2i/d))`, `PE(pos, 2i+1) = cos(pos / 10000^(2i/d))`; with
    `interleaved=False` all sines come first, then all cosines (tensor2tensor, Marian).

    Input: anything of shape `[batch, seq, …]`. Output: `[1, seq, hidden]`; with `positions` int
    `[batch, seq]` theirs, `[batch, seq, hidden]`.
    """

    def __init__(self, hidden_dim, interleaved=True, **kwargs):
        super().__init__(**kwargs)
        if hidden_dim % 2:
            raise ValueError(f"hidden_dim must be even, got {hidden_dim}")
        self.hidden_dim = hidden_dim
        self.interleaved = interleaved

    def call(self, inputs, positions=None):
        if positions is None:
            positions = ops.expand_dims(ops.arange(ops.shape(inputs)[1]), 0)
        batch, length = ops.shape(positions)
        position = ops.cast(ops.expand_dims(positions, -1), "float32")  # [batch, seq, 1]

        # Angles in turns: float32 drops the whole turns of `position * coarse` without rounding
        # (up to position 12000), where the plain product is wrong by 1e-4 at position 1000.
        turns = 10000.0 ** (-np.arange(0, self.hidden_dim, 2) / self.hidden_dim) / (2 * math.pi)
        coarse = np.round(turns * 2**13) / 2**13
        whole = position * coarse.astype("float32")
        rest = position * (turns - coarse).astype("float32")
        angle = (whole - ops.floor(whole) + rest) * (2 * math.pi)  # [batch, seq, hidden / 2]
        sine, cosine = ops.sin(angle), ops.cos(angle)
        if self.interleaved:
            shape = (batch, length, self.hidden_dim)
            table = ops.reshape(ops.stack([sine, cosine], axis=-1), shape)
        else:
            table = ops.concatenate([sine, cosine], axis=-1)
        return ops.cast(table, self.compute_dtype)

    def compute_output_shape(self, inputs_shape):
        return (1, inputs_shape[1], self.hidden_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "interleaved": self.interleaved,
        }
