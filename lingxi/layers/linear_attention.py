"""Attention whose cost grows linearly with the length (Katharopoulos et al. 2020)."""

import keras
from keras import ops

from lingxi.layers.dense import Dense


@keras.saving.register_keras_serializable(package="lingxi")
class LinearAttention(keras.layers.Layer):
    """`φ(Q) (φ(K)ᵀ V) / (φ(Q) Σφ(K))` with φ = elu + 1, then one output projection.

    There is no matrix of queries by keys: memory and time are those of a few dense layers, for
    thousands of image cells too. "Transformers are RNNs", equations 4 to 7.

    Args:
        num_heads: heads; `hidden_dim` must be a multiple of it.
        hidden_dim: width of queries and outputs.
        cross: attend to `context` instead of to the inputs.
        use_bias: biases on all projections.
        epsilon: added to the denominator.
        kernel_initializer: for all projections.
    """

    def __init__(
        self,
        num_heads,
        hidden_dim,
        cross=False,
        use_bias=False,
        epsilon=1e-6,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if hidden_dim % num_heads:
            raise ValueError(
                f"hidden_dim must be a multiple of num_heads, got {hidden_dim} and {num_heads}"
            )
        self.num_heads = num_heads
        self.hidden_dim = hidden_dim
        self.cross = cross
        self.use_bias = use_bias
        self.epsilon = epsilon
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

        def dense(units, name):
            return Dense(
                units,
                use_bias=use_bias,
                kernel_initializer=self.kernel_initializer.clone(),
                dtype=self.dtype_policy,
                name=name,
            )

        if cross:
            self.query_dense = dense(hidden_dim, "query")
            self.key_value_dense = dense(2 * hidden_dim, "key_value")
        else:
            self.query_key_value_dense = dense(3 * hidden_dim, "query_key_value")
        self.output_dense = dense(hidden_dim, "output")

    def build(self, inputs_shape, context_shape=None):
        width = inputs_shape[-1]
        if self.cross:
            self.query_dense.build((None, width))
            self.key_value_dense.build((None, (context_shape or inputs_shape)[-1]))
        else:
            self.query_key_value_dense.build((None, width))
        self.output_dense.build((None, self.hidden_dim))

    def call(self, inputs, context=None, padding_mask=None):
        """Attend.

        Args:
            inputs: `[batch, query, hidden]`.
            context: `[batch, key, width]`, with `cross=True` only.
            padding_mask: bool `[batch, key]`, True where a key is real.

        Returns:
            `[batch, query, hidden]`. Where no key is real, the projection of zeros.
        """
        if self.cross != (context is not None):
            raise ValueError(
                f"this layer was built with cross={self.cross}; it "
                + ("needs `context`" if self.cross else "takes no `context`")
            )
        if self.cross:
            (query,) = self._split_heads(self.query_dense(inputs), 1)
            key, value = self._split_heads(self.key_value_dense(context), 2)
        else:
            query, key, value = self._split_heads(self.query_key_value_dense(inputs), 3)

        query, key = ops.elu(query) + 1, ops.elu(key) + 1  # [batch, heads, length, head_dim]
        if padding_mask is not None:
            batch, length = ops.shape(padding_mask)
            key = key * ops.cast(ops.reshape(padding_mask, (batch, 1, length, 1)), key.dtype)
        # Means over the keys, above and below, in place of sums: float16 ends at 65504.
        count = ops.shape(key)[2]
        key = ops.transpose(key / ops.cast(count, key.dtype), (0, 1, 3, 2))
        summary = ops.matmul(key, value)  # [batch, heads, head_dim, head_dim]
        mixed = ops.matmul(query, summary)  # [batch, heads, query, head_dim]
        weight = ops.matmul(query, ops.sum(key, axis=-1, keepdims=True))  # [batch, heads, query, 1]
        epsilon = self.epsilon / ops.cast(count, "float32")
        mixed = ops.cast(mixed, "float32") / (ops.cast(weight, "float32") + epsilon)
        return self.output_dense(self._merge_heads(ops.cast(mixed, self.compute_dtype)))

    def _split_heads(self, fused, parts):
        batch, length = ops.shape(fused)[:2]
        width = self.hidden_dim // self.num_heads
        fused = ops.reshape(fused, (batch, length, parts, self.num_heads, width))
        fused = ops.transpose(fused, (2, 0, 3, 1, 4))  # [parts, batch, heads, length, head_dim]
        return tuple(ops.squeeze(part, 0) for part in ops.split(fused, parts, axis=0))

    def _merge_heads(self, mixed):
        batch, _, length, _ = ops.shape(mixed)
        mixed = ops.transpose(mixed, (0, 2, 1, 3))  # [batch, query, heads, head_dim]
        return ops.reshape(mixed, (batch, length, self.hidden_dim))

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "hidden_dim": self.hidden_dim,
            "cross": self.cross,
            "use_bias": self.use_bias,
            "epsilon": self.epsilon,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
