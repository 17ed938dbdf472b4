"""The block that encoders and decoders are stacks of (Vaswani et al. 2017, section 3.1)."""

import keras

from lingxi.layers.attention import MultiHeadAttention
from lingxi.layers.feed_forward import FeedForward
from lingxi.layers.layer_norm import LayerNorm
from lingxi.layers.rms_norm import RMSNorm

_NORMS = {"layer": LayerNorm, "rms": RMSNorm}


@keras.saving.register_keras_serializable(package="lingxi")
class TransformerBlock(keras.layers.Layer):
    """Self-attention, cross-attention if wanted, and a feed-forward network.

    Each has a residual connection and a norm. Post-norm (the paper, BERT):
    `x = Norm(x + Sublayer(x))`. Pre-norm (GPT-2 and later): `x = x + Sublayer(Norm(x))`.

    Input and output: `[batch, seq, hidden]`.

    Args:
        num_heads, intermediate_dim: sizes; the width is that of the inputs.
        activation, gated: of the feed-forward network, see `lingxi.layers.FeedForward`.
        cross: with cross-attention to a context, between the two.
        dropout: rate on the output of each sublayer.
        attention_dropout: rate on the attention weights.
        activation_dropout: rate inside the feed-forward network.
        norm: "layer" or "rms".
        norm_first: pre-norm instead of post-norm.
        norm_epsilon: added to the variance.
        head_dim, attention_scale: see `lingxi.layers.MultiHeadAttention`.
        use_bias: biases on all products.
        query_key_value_bias: on those of the attention; by default as `use_bias`.
        kernel_initializer: for all dense kernels.
    """

    def __init__(
        self,
        num_heads,
        intermediate_dim,
        activation="gelu",
        gated=False,
        cross=False,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        norm="layer",
        norm_first=False,
        norm_epsilon=1e-12,
        head_dim=None,
        attention_scale=None,
        use_bias=True,
        query_key_value_bias=None,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if norm not in _NORMS:
            raise ValueError(f"norm must be one of {', '.join(_NORMS)}, got {norm!r}")
        self.num_heads = num_heads
        self.intermediate_dim = intermediate_dim
        self.activation = activation
        self.gated = gated
        self.cross = cross
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.activation_dropout = activation_dropout
        self.norm = norm
        self.norm_first = norm_first
        self.norm_epsilon = norm_epsilon
        self.head_dim = head_dim
        self.attention_scale = attention_scale
        self.use_bias = use_bias
        self.query_key_value_bias = (
            use_bias if query_key_value_bias is None else query_key_value_bias
        )
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, inputs_shape, context_shape=None):
        dtype = self.dtype_policy
        hidden_dim = inputs_shape[-1]

        def attention(name, cross=False):
            return MultiHeadAttention(
                self.num_heads,
                hidden_dim,
                dropout=self.attention_dropout,
                cross=cross,
                head_dim=self.head_dim,
                scale=self.attention_scale,
                use_bias=self.query_key_value_bias,
                output_bias=self.use_bias,
                kernel_initializer=self.kernel_initializer.clone(),
                dtype=dtype,
                name=name,
            )

        def norm(name):
            layer = _NORMS[self.norm](epsilon=self.norm_epsilon, dtype=dtype, name=name)
            layer.build(inputs_shape)
            return layer

        self.attention = attention("attention")
        self.attention.build(inputs_shape)
        self.attention_norm = norm("attention_norm")
        if self.cross:
            self.cross_attention = attention("cross_attention", cross=True)
            self.cross_attention.build(inputs_shape, context_shape)
            self.cross_attention_norm = norm("cross_attention_norm")
        self.feed_forward = FeedForward(
            self.intermediate_dim,
            activation=self.activation,
            gated=self.gated,
            dropout=self.activation_dropout,
            use_bias=self.use_bias,
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=dtype,
            name="feed_forward",
        )
        self.feed_forward.build(inputs_shape)
        self.feed_forward_norm = norm("feed_forward_norm")
        self.residual_dropout = keras.layers.Dropout(self.dropout, dtype=dtype)

    def call(
        self,
        inputs,
        context=None,
        padding_mask=None,
        context_padding_mask=None,
        attention_mask=None,
        position_bias=None,
        causal=False,
        window=None,
        cache=None,
        cache_index=None,
        num_positions=None,
        return_attention_weights=False,
        training=None,
    ):
        """Masks, bias and window as in `lingxi.layers.MultiHeadAttention`, for self-attention.

        Args:
            context: `[batch, context, width]`, for cross-attention.
            context_padding_mask: bool `[batch, context]`, True where it is real.
            cache: from `make_cache`; in cross-attention it replaces `context`.
            cache_index: int scalar, position of the first of `inputs` in the cache.
            num_positions: all tokens are attended to, but only the first so many outputs are
                computed: `[batch, num_positions, hidden]`.

        Returns:
            The outputs; a tuple with the weights of self-attention (and of cross-attention), if
            asked for, and the updated cache, if one was given, in that order.
        """
        cache = cache or {}
        options = {"return_attention_weights": return_attention_weights, "training": training}

        x, *extras = _several(
            self.attention(
                self._before(self.attention_norm, inputs),
                padding_mask=padding_mask,
                attention_mask=attention_mask,
                position_bias=position_bias,
                causal=causal,
                window=window,
                cache=cache.get("self"),
                cache_index=cache_index,
                num_positions=num_positions,
                **options,
            )
        )
        if num_positions is not None:
            inputs = inputs[:, :num_positions]
        x = self._after(self.attention_norm, inputs, x, training)
        weights, caches = extras[: int(return_attention_weights)], {}
        if "self" in cache:
            caches["self"] = extras[-1]

        if self.cross:
            attended, *extras = _several(
                self.cross_attention(
                    self._before(self.cross_attention_norm, x),
                    context=context,
                    padding_mask=context_padding_mask,
                    cache=cache.get("cross"),
                    **options,
                )
            )
            x = self._after(self.cross_attention_norm, x, attended, training)
            weights += extras[: int(return_attention_weights)]
            if "cross" in cache:
                caches["cross"] = extras[-1]

        forward = self.feed_forward(self._before(self.feed_forward_norm, x), training=training)
        x = self._after(self.feed_forward_norm, x, forward, training)
        extras = [*weights, *([caches] if caches else [])]
        return (x, *extras) if extras else x

    def _before(self, norm, x):
        return norm(x) if self.norm_first else x

    def _after(self, norm, x, update, training):
        x = x + self.residual_dropout(update, training=training)
        return x if self.norm_first else norm(x)

    def make_cache(self, batch, length, context=None):
        """An empty cache for `length` positions; with cross-attention also `context`'s keys."""
        cache = {"self": self.attention.make_cache(batch, length)}
        if self.cross:
            cache["cross"] = self.cross_attention.project_context(context)
        return cache

    def get_config(self):
        names = (
            "num_heads",
            "intermediate_dim",
            "activation",
            "gated",
            "cross",
            "dropout",
            "attention_dropout",
            "activation_dropout",
            "norm",
            "norm_first",
            "norm_epsilon",
            "head_dim",
            "attention_scale",
            "use_bias",
            "query_key_value_bias",
        )
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in names},
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _several(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)
