"""Self- and cross-attention by turns over two sets of vectors (LoFTR, Sun et al. 2021)."""

import keras
from keras import ops

from lingxi.layers.dense import Dense
from lingxi.layers.layer_norm import LayerNorm
from lingxi.layers.linear_attention import LinearAttention


@keras.saving.register_keras_serializable(package="lingxi")
class MessageBlock(keras.layers.Layer):
    """`x + message`, where what linear attention gathers is only advice (LoFTR, figure 3c).

    `message = Norm(Attention(x, context))`; `message = Norm(W₂ relu(W₁ [x, message]))`.

    Input and output: `[batch, seq, hidden]`.

    Args:
        num_heads: of the attention; the width is that of the inputs.
        cross: attend to a context instead of to the inputs.
        norm_epsilon: added to the variance.
        kernel_initializer: for all dense kernels; none has a bias.
    """

    def __init__(
        self,
        num_heads,
        cross=False,
        norm_epsilon=1e-5,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.cross = cross
        self.norm_epsilon = norm_epsilon
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, inputs_shape, context_shape=None):
        hidden_dim, dtype = inputs_shape[-1], self.dtype_policy

        def dense(units, name, activation=None):
            layer = Dense(
                units,
                activation=activation,
                use_bias=False,
                kernel_initializer=self.kernel_initializer.clone(),
                dtype=dtype,
                name=name,
            )
            layer.build((None, 2 * hidden_dim))
            return layer

        def norm(name):
            layer = LayerNorm(epsilon=self.norm_epsilon, dtype=dtype, name=name)
            layer.build(inputs_shape)
            return layer

        self.attention = LinearAttention(
            self.num_heads,
            hidden_dim,
            cross=self.cross,
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=dtype,
            name="attention",
        )
        self.attention.build(inputs_shape, context_shape)
        self.attention_norm = norm("attention_norm")
        self.intermediate_dense = dense(2 * hidden_dim, "intermediate", "relu")
        self.output_dense = dense(hidden_dim, "output")
        self.output_norm = norm("output_norm")

    def call(self, inputs, context=None, padding_mask=None):
        """Advise `[batch, seq, hidden]`; the arguments are those of `LinearAttention`."""
        message = self.attention(inputs, context=context, padding_mask=padding_mask)
        message = self.attention_norm(message)
        message = ops.concatenate([inputs, message], axis=-1)  # [batch, seq, 2 * hidden]
        return inputs + self.output_norm(self.output_dense(self.intermediate_dense(message)))

    def compute_output_shape(self, inputs_shape, context_shape=None):
        return inputs_shape

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "cross": self.cross,
            "norm_epsilon": self.norm_epsilon,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable(package="lingxi")
class PairTransformer(keras.layers.Layer):
    """`num_layers` times self-attention in each of two sets, then cross-attention between them.

    Both sets go through the same blocks; the second attends to the first as already updated.

    Args:
        num_heads, num_layers: sizes; the width is that of the inputs.
        norm_epsilon: added to the variance.
    """

    def __init__(self, num_heads, num_layers, norm_epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.num_layers = num_layers
        self.norm_epsilon = norm_epsilon

    def build(self, a_shape, b_shape=None):
        def block(name, cross):
            layer = MessageBlock(
                self.num_heads,
                cross=cross,
                norm_epsilon=self.norm_epsilon,
                dtype=self.dtype_policy,
                name=name,
            )
            layer.build(a_shape)
            return layer

        indices = range(self.num_layers)
        self.self_blocks = [block(f"self_{index}", cross=False) for index in indices]
        self.cross_blocks = [block(f"cross_{index}", cross=True) for index in indices]

    def call(self, a, b, mask_a=None, mask_b=None):
        """Update both sets.

        Args:
            a, b: `[batch, cells_a, hidden]`, `[batch, cells_b, hidden]`.
            mask_a, mask_b: bool `[batch, cells]`, True for real cells.

        Returns:
            Both, in the shapes in which they came.
        """
        for self_block, cross_block in zip(self.self_blocks, self.cross_blocks, strict=True):
            a, b = self_block(a, padding_mask=mask_a), self_block(b, padding_mask=mask_b)
            a = cross_block(a, context=b, padding_mask=mask_b)
            b = cross_block(b, context=a, padding_mask=mask_a)
        return a, b

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "num_layers": self.num_layers,
            "norm_epsilon": self.norm_epsilon,
        }
