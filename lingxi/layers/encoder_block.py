"""One block of a Transformer encoder (Vaswani et al. 2017, section 3.1)."""

import keras

from lingxi.layers.attention import MultiHeadAttention
from lingxi.layers.feed_forward import FeedForward
from lingxi.layers.layer_norm import LayerNorm


@keras.saving.register_keras_serializable(package="lingxi")
class EncoderBlock(keras.layers.Layer):
    """Self-attention and a feed-forward network, each with a residual connection and a norm.

    Post-norm (the paper, BERT): `x = Norm(x + Sublayer(x))`.
    Pre-norm (GPT-2 and later): `x = x + Sublayer(Norm(x))`.

    Input and output: `[batch, seq, hidden]`.

    Args:
        num_heads, intermediate_dim: sizes; the width is that of the inputs.
        activation: of the feed-forward network, see `lingxi.layers.FeedForward`.
        dropout: rate on the output of each sublayer.
        attention_dropout: rate on the attention weights.
        norm_first: pre-norm instead of post-norm.
        norm_epsilon: added to the variance.
        kernel_initializer: for all dense kernels.
    """

    def __init__(
        self,
        num_heads,
        intermediate_dim,
        activation="gelu",
        dropout=0.0,
        attention_dropout=0.0,
        norm_first=False,
        norm_epsilon=1e-12,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.intermediate_dim = intermediate_dim
        self.activation = activation
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.norm_first = norm_first
        self.norm_epsilon = norm_epsilon
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, inputs_shape):
        dtype = self.dtype_policy
        self.attention = MultiHeadAttention(
            self.num_heads,
            inputs_shape[-1],
            dropout=self.attention_dropout,
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=dtype,
            name="attention",
        )
        self.attention_dropout_layer = keras.layers.Dropout(self.dropout, dtype=dtype)
        self.attention_norm = LayerNorm(epsilon=self.norm_epsilon, dtype=dtype)
        self.feed_forward = FeedForward(
            self.intermediate_dim,
            activation=self.activation,
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=dtype,
            name="feed_forward",
        )
        self.feed_forward_dropout = keras.layers.Dropout(self.dropout, dtype=dtype)
        self.feed_forward_norm = LayerNorm(epsilon=self.norm_epsilon, dtype=dtype)
        for sublayer in (
            self.attention,
            self.attention_norm,
            self.feed_forward,
            self.feed_forward_norm,
        ):
            sublayer.build(inputs_shape)

    def call(
        self,
        inputs,
        padding_mask=None,
        attention_mask=None,
        causal=False,
        return_attention_weights=False,
        training=None,
    ):
        """Masks and `return_attention_weights` as in `lingxi.layers.MultiHeadAttention`."""
        x = self.attention_norm(inputs) if self.norm_first else inputs
        attended, weights = self.attention(
            x,
            padding_mask=padding_mask,
            attention_mask=attention_mask,
            causal=causal,
            return_attention_weights=True,
            training=training,
        )
        x = inputs + self.attention_dropout_layer(attended, training=training)
        if self.norm_first:
            forward = self.feed_forward(self.feed_forward_norm(x))
            x = x + self.feed_forward_dropout(forward, training=training)
        else:
            x = self.attention_norm(x)
            forward = self.feed_forward(x)
            x = self.feed_forward_norm(x + self.feed_forward_dropout(forward, training=training))
        return (x, weights) if return_attention_weights else x

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "intermediate_dim": self.intermediate_dim,
            "activation": self.activation,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "norm_first": self.norm_first,
            "norm_epsilon": self.norm_epsilon,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
