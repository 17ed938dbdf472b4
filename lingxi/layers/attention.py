"""Multi-head attention (Vaswani et al. 2017, section 3.2)."""

import keras
from keras import ops

from lingxi.layers.decoding import written
from lingxi.layers.dense import Dense


@keras.saving.register_keras_serializable(package="lingxi")
class MultiHeadAttention(keras.layers.Layer):
    """`softmax(Q Kᵀ / √d + mask) V` for several heads, then one output projection.

    Self-attention projects query, key and value by one fused product; with `cross=True` the keys
    and values come from `context` (one fused product for both).

    Args:
        num_heads: heads; `hidden_dim` must be a multiple of it.
        hidden_dim: width of queries and outputs.
        dropout: rate on the attention weights, while training.
        cross: attend to `context` instead of to the inputs.
        head_dim: width of one head, by default `hidden_dim / num_heads`.
        scale: of the scores, by default `1 / √head_dim`.
        use_bias: biases on the projections of query, key and value.
        output_bias: a bias on the output projection, by default as `use_bias`.
        kernel_initializer: for all projections.
    """

    def __init__(
        self,
        num_heads,
        hidden_dim,
        dropout=0.0,
        cross=False,
        head_dim=None,
        scale=None,
        use_bias=True,
        output_bias=None,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if head_dim is None and hidden_dim % num_heads:
            raise ValueError(
                f"hidden_dim must be a multiple of num_heads, got {hidden_dim} and {num_heads}"
            )
        self.num_heads = num_heads
        self.hidden_dim = hidden_dim
        self.head_dim = head_dim or hidden_dim // num_heads
        self.dropout = dropout
        self.cross = cross
        self.scale = self.head_dim**-0.5 if scale is None else scale
        self.use_bias = use_bias
        self.output_bias = use_bias if output_bias is None else output_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

        def dense(units, name, use_bias=use_bias):
            return Dense(
                units,
                use_bias=use_bias,
                kernel_initializer=self.kernel_initializer.clone(),
                dtype=self.dtype_policy,
                name=name,
            )

        width = self.num_heads * self.head_dim
        if cross:
            self.query_dense = dense(width, "query")
            self.key_value_dense = dense(2 * width, "key_value")
        else:
            self.query_key_value_dense = dense(3 * width, "query_key_value")
        self.output_dense = dense(hidden_dim, "output", self.output_bias)
        self.weights_dropout = keras.layers.Dropout(
            dropout, dtype=self.dtype_policy, name="weights_dropout"
        )

    def build(self, inputs_shape, context_shape=None):
        width = inputs_shape[-1]
        if self.cross:
            self.query_dense.build((None, width))
            self.key_value_dense.build((None, (context_shape or inputs_shape)[-1]))
        else:
            self.query_key_value_dense.build((None, width))
        self.output_dense.build((None, self.num_heads * self.head_dim))

    def call(
        self,
        inputs,
        context=None,
        padding_mask=None,
        attention_mask=None,
        position_bias=None,
        causal=False,
        window=None,
        cache=None,
        cache_index=None,
        num_positions=None,
        return_attention_weights=False,
        return_values=False,
        training=None,
    ):
        """Attend.

        Args:
            inputs: `[batch, query, hidden]`.
            context: `[batch, key, width]`, only with `cross=True`; may be left out when `cache`
                holds its keys and values.
            padding_mask: bool `[batch, key]`, True where a key is a real token.
            attention_mask: bool, broadcastable to `[batch, heads, query, key]`; a mask of rank 3
                is `[batch, query, key]`. True where a query may look.
            position_bias: added to the scores, broadcastable to `[batch, heads, query, key]`.
            causal: a query sees only keys up to its own position.
            window: with `causal`, a query sees only the last so many keys.
            cache: `(key, value)`, each `[batch, heads, key, head_dim]`. In self-attention the new
                keys and values are written into it at `cache_index` and attention runs over the
                whole cache; in cross-attention it replaces `context`. `make_cache` and
                `project_context` make them.
            cache_index: int scalar, position of the first of `inputs` in the cache.
            num_positions: only the first so many of `inputs` are queries (self-attention).
            return_attention_weights: also return `[batch, heads, query, key]`.
            return_values: also return what is mixed, `[batch, heads, key, head_dim]`.

        Returns:
            The outputs `[batch, query, hidden]`; a tuple with the attention weights and the values,
            if asked for, and the updated cache, if one was given, in that order. A query that may
            look nowhere gets the mean of all values, never NaN.
        """
        if self.cross:
            query = self._split_heads(self.query_dense(inputs), 1)[0]
            if context is None and cache is None:
                raise ValueError("cross-attention needs `context`, or `cache` in its place")
            key, value = cache or self.project_context(context)
        else:
            if context is not None:
                raise ValueError("`context` was given, but this layer was built with cross=False")
            query, key, value = self._split_heads(self.query_key_value_dense(inputs), 3)
            if cache is not None:
                if cache_index is None:
                    raise ValueError("self-attention with `cache` needs `cache_index`")
                key = written(cache[0], key, cache_index)
                value = written(cache[1], value, cache_index)
                cache = (key, value)
            if num_positions is not None:
                query = query[:, :, :num_positions]

        # softmax(Q Kᵀ / √d + mask) V. A mask of keys is added: TensorFlow fuses it with the
        # product, and in TFLite XNNPACK runs it, which cannot select. One of queries and keys
        # selects: fused, a causal one takes TensorFlow seconds.
        if self.scale != 1.0:
            query = query * self.scale
        scores = ops.matmul(query, ops.swapaxes(key, -1, -2))  # [batch, heads, query, key]
        mask = self._mask(scores, padding_mask, attention_mask, causal, window, cache_index)
        if position_bias is not None:
            scores = scores + ops.cast(position_bias, scores.dtype)
        lowest = _lowest(scores.dtype)
        if causal or attention_mask is not None:
            scores = ops.where(mask, scores, ops.cast(lowest, scores.dtype))
        elif mask is not None:
            scores = scores + ops.cast(ops.where(mask, 0.0, lowest), scores.dtype)
        weights = ops.softmax(scores, axis=-1)
        mixed = ops.matmul(self.weights_dropout(weights, training=training), value)
        outputs = self.output_dense(self._merge_heads(mixed))

        extras = []
        if return_attention_weights:
            extras.append(weights)
        if return_values:
            extras.append(value)
        if cache is not None:
            extras.append(cache)
        return (outputs, *extras) if extras else outputs

    def project_context(self, context):
        """Keys and values of `context`, `[batch, heads, key, head_dim]`, for cross-attention."""
        return self._split_heads(self.key_value_dense(context), 2)

    def make_cache(self, batch, length):
        """An empty cache of keys and values for `length` positions of self-attention."""
        shape = (batch, self.num_heads, length, self.head_dim)
        return ops.zeros(shape, self.compute_dtype), ops.zeros(shape, self.compute_dtype)

    def _split_heads(self, fused, parts):
        batch, length = ops.shape(fused)[:2]
        if fused.shape[1] == 1:  # a step of decoding: nothing to transpose
            fused = ops.reshape(fused, (batch, parts, self.num_heads, 1, self.head_dim))
            return tuple(ops.squeeze(part, 1) for part in ops.split(fused, parts, axis=1))
        fused = ops.reshape(fused, (batch, length, parts, self.num_heads, self.head_dim))
        fused = ops.transpose(fused, (2, 0, 3, 1, 4))  # [parts, batch, heads, length, head_dim]
        return tuple(ops.squeeze(part, 0) for part in ops.split(fused, parts, axis=0))

    def _merge_heads(self, mixed):
        batch, _, length, _ = ops.shape(mixed)
        if mixed.shape[2] != 1:
            mixed = ops.transpose(mixed, (0, 2, 1, 3))  # [batch, query, heads, head_dim]
        return ops.reshape(mixed, (batch, length, self.num_heads * self.head_dim))

    def _mask(self, scores, padding_mask, attention_mask, causal, window, cache_index):
        """All masks as one that broadcasts to `[batch, heads, query, key]`, or None."""
        masks = []
        if padding_mask is not None:
            batch, key = ops.shape(padding_mask)
            masks.append(ops.reshape(ops.cast(padding_mask, "bool"), (batch, 1, 1, key)))
        if attention_mask is not None:
            attention_mask = ops.cast(attention_mask, "bool")
            if len(attention_mask.shape) == 3:
                attention_mask = ops.expand_dims(attention_mask, 1)
            masks.append(attention_mask)
        if causal:
            query, key = ops.shape(scores)[-2:]
            row = ops.expand_dims(ops.arange(query), 1)  # [query, 1]
            if cache_index is not None:
                row = row + ops.cast(cache_index, row.dtype)
            column = ops.expand_dims(ops.arange(key), 0)  # [1, key]
            masks.append(column <= row)  # [query, key]
            if window is not None:
                masks.append(column > row - window)
        if not masks:
            return None
        mask = masks[0]
        for other in masks[1:]:
            mask = ops.logical_and(mask, other)
        return mask

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "hidden_dim": self.hidden_dim,
            "dropout": self.dropout,
            "cross": self.cross,
            "head_dim": self.head_dim,
            "scale": self.scale,
            "use_bias": self.use_bias,
            "output_bias": self.output_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _lowest(dtype):
    """A score so low that its weight is zero, yet finite: a fully masked row stays finite."""
    return -3e4 if keras.backend.standardize_dtype(dtype) == "float16" else -1e9
