"""The Transformer (Vaswani et al. 2017): an encoder and a decoder that attends to its output.

Marian (Junczys-Dowmunt et al. 2018) and BART (Lewis et al. 2019) differ from it by what
`TransformerConfig` says, and in how Hugging Face names their weights.
"""

import dataclasses

import keras
from keras import ops

from lingxi.layers import (
    Dense,
    LayerNorm,
    PositionEmbedding,
    SinusoidalPosition,
    TokenEmbedding,
    TransformerBlock,
)
from lingxi.zoo import checkpoint
from lingxi.zoo.backbone import Backbone
from lingxi.zoo.huggingface.transformer import LAYOUTS

_POSITIONS = ("interleaved", "halves", "learned")


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Sizes and rates of a `Transformer`.

    Attributes:
        model_type: "transformer", "marian" or "bart": whose checkpoints these are.
        decoder_vocab_size, decoder_num_heads, decoder_intermediate_dim: None where they are those
            of the encoder.
        max_length: the longest sequence, in tokens; sinusoids go on beyond it.
        positions: sines and cosines "interleaved" (the paper) or in "halves" (Marian), or
            "learned", one table for the encoder and one for the decoder.
        position_offset: rows that BART has before that of the first position.
        scale_embeddings: token embeddings times `√hidden_dim`.
        embedding_norm: a norm after the embeddings (BART).
        norm_first: pre-norm, with a norm at the end of both stacks, instead of post-norm.
        share_embeddings: one token table for encoder and decoder.
        tie_head: the head is the decoder's token table.
        logits_bias: one learned number per token, added to the logits.
        initializer_range: standard deviation of all initial weights; None for embeddings of
            `1 / √hidden_dim` and Glorot's uniform distribution for the rest.
    """

    model_type: str = "transformer"
    vocab_size: int = 37000
    decoder_vocab_size: int | None = None
    hidden_dim: int = 512
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    num_heads: int = 8
    decoder_num_heads: int | None = None
    intermediate_dim: int = 2048
    decoder_intermediate_dim: int | None = None
    max_length: int = 1024
    positions: str = "interleaved"
    position_offset: int = 0
    scale_embeddings: bool = True
    embedding_norm: bool = False
    norm_first: bool = False
    norm_epsilon: float = 1e-5
    activation: str = "relu"
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    share_embeddings: bool = True
    tie_head: bool = True
    logits_bias: bool = False
    pad_id: int = 0
    bos_id: int | None = 1
    eos_id: int = 2
    decoder_start_id: int = 1
    initializer_range: float | None = None

    def __post_init__(self):
        for name in ("vocab_size", "num_heads", "intermediate_dim"):
            if getattr(self, f"decoder_{name}") == getattr(self, name):
                object.__setattr__(self, f"decoder_{name}", None)
        if self.share_embeddings and self.decoder_vocab_size is not None:
            raise ValueError(
                "with share_embeddings there is one vocabulary, got vocab_size="
                f"{self.vocab_size} and decoder_vocab_size={self.decoder_vocab_size}"
            )
        if self.positions not in _POSITIONS:
            raise ValueError(
                f"positions must be one of {', '.join(_POSITIONS)}, got {self.positions!r}"
            )

    @property
    def target_vocab_size(self):
        """Tokens that the decoder knows."""
        return self.decoder_vocab_size or self.vocab_size

    @property
    def num_parameters(self):
        h, target = self.hidden_dim, self.target_vocab_size
        norm, attention = 2 * h, 4 * (h * h + h)

        def block(attentions, i):
            return attentions * (attention + norm) + (h * i + i) + (i * h + h) + norm

        tables = self.vocab_size + target * ((not self.share_embeddings) + (not self.tie_head))
        if self.positions == "learned":
            tables += 2 * (self.position_offset + self.max_length)
        return (
            tables * h
            + self.logits_bias * target
            + 2 * norm * (self.embedding_norm + self.norm_first)
            + self.num_encoder_layers * block(1, self.intermediate_dim)
            + self.num_decoder_layers
            * block(2, self.decoder_intermediate_dim or self.intermediate_dim)
        )


def _bart(layers, hidden, heads):
    return TransformerConfig(
        model_type="bart",
        vocab_size=50265,
        hidden_dim=hidden,
        num_encoder_layers=layers,
        num_decoder_layers=layers,
        num_heads=heads,
        intermediate_dim=4 * hidden,
        positions="learned",
        position_offset=2,
        scale_embeddings=False,
        embedding_norm=True,
        activation="gelu",
        attention_dropout=0.1,
        activation_dropout=0.1,
        pad_id=1,
        bos_id=0,
        eos_id=2,
        decoder_start_id=2,
        initializer_range=0.02,
    )


class _Stack(keras.layers.Layer):
    """The encoder, or with `cross` the decoder: embeddings, blocks, and a norm if pre-norm.

    Input: token ids `[batch, seq]`. Output: `[batch, seq, hidden]`, in a tuple with the hidden
    states and the updated cache.
    """

    def __init__(self, config, token_embedding, cross, **kwargs):
        super().__init__(**kwargs)
        c, dtype = config, self.dtype_policy
        self.cross = cross
        layers, heads, intermediate = c.num_encoder_layers, c.num_heads, c.intermediate_dim
        if cross:
            layers = c.num_decoder_layers
            heads = c.decoder_num_heads or heads
            intermediate = c.decoder_intermediate_dim or intermediate

        self.token_embedding = token_embedding
        self.embedding_scale = c.hidden_dim**0.5 if c.scale_embeddings else 1.0
        if c.positions == "learned":
            self.position_embedding = PositionEmbedding(
                c.max_length,
                c.hidden_dim,
                _embedding_initializer(c),
                offset=c.position_offset,
                dtype=dtype,
                name="position_embedding",
            )
        else:
            self.position_embedding = SinusoidalPosition(
                c.hidden_dim, c.positions == "interleaved", dtype=dtype, name="position_embedding"
            )

        def norm(name):
            return LayerNorm(epsilon=c.norm_epsilon, dtype=dtype, name=name)

        self.embedding_norm = norm("embedding_norm") if c.embedding_norm else None
        self.embedding_dropout = keras.layers.Dropout(
            c.dropout, dtype=dtype, name="embedding_dropout"
        )
        self.blocks = [
            TransformerBlock(
                heads,
                intermediate,
                activation=c.activation,
                cross=cross,
                dropout=c.dropout,
                attention_dropout=c.attention_dropout,
                activation_dropout=c.activation_dropout,
                norm_first=c.norm_first,
                norm_epsilon=c.norm_epsilon,
                kernel_initializer=_kernel_initializer(c),
                dtype=dtype,
                name=f"block_{index}",
            )
            for index in range(layers)
        ]
        self.final_norm = norm("final_norm") if c.norm_first else None

    def build(self, tokens_shape):
        hidden_shape = (*tokens_shape, self.token_embedding.output_dim)
        self.position_embedding.build(tokens_shape)
        for layer in (self.embedding_norm, *self.blocks, self.final_norm):
            if layer is not None:
                layer.build(hidden_shape)

    def call(
        self,
        token_ids,
        context=None,
        padding_mask=None,
        context_padding_mask=None,
        attention_mask=None,
        positions=None,
        cache=None,
        cache_index=None,
        training=None,
    ):
        if positions is None and cache is not None:
            positions = ops.expand_dims(ops.arange(ops.shape(token_ids)[1]) + cache_index, 0)

        x = self.token_embedding(token_ids) * self.embedding_scale
        x = x + self.position_embedding(token_ids, positions)
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        x = self.embedding_dropout(x, training=training)  # [batch, seq, hidden]
        hidden_states, new_cache = [x], []
        for index, block in enumerate(self.blocks):
            x = block(
                x,
                context=context,
                padding_mask=padding_mask,
                context_padding_mask=context_padding_mask,
                attention_mask=attention_mask,
                causal=self.cross and attention_mask is None,
                cache=None if cache is None else cache[index],
                cache_index=cache_index,
                training=training,
            )
            if cache is not None:
                x, block_cache = x
                new_cache.append(block_cache)
            hidden_states.append(x)
        if self.final_norm is not None:
            x = self.final_norm(x)
            hidden_states[-1] = x
        return x, tuple(hidden_states), new_cache


@keras.saving.register_keras_serializable(package="lingxi")
class Transformer(Backbone):
    """An encoder–decoder: the Transformer, Marian or BART.

    Inputs, a dict: `encoder_token_ids` int `[batch, encoder]`; `encoder_padding_mask` bool
    `[batch, encoder]`, True for real tokens, all real if left out; `decoder_token_ids` int
    `[batch, decoder]`; `decoder_padding_mask` bool `[batch, decoder]`, likewise.

    Outputs, a dict: `encoder_output` `[batch, encoder, hidden]`; `sequence_output`
    `[batch, decoder, hidden]`; `logits` `[batch, decoder, vocab]`; with `return_hidden_states=True`
    also `encoder_hidden_states` and `hidden_states`, the embeddings and the output of every block
    of the encoder and of the decoder.

    Step by step: give `cache`, from `make_cache`, and `cache_index`, the position of the first of
    `decoder_token_ids` in it. Then only the decoder runs; `encoder_token_ids` are not needed, but
    `encoder_padding_mask` is, and `decoder_padding_mask` is `[batch, cache length]`. The outputs
    have the updated `cache` and nothing of the encoder. Where the cache does not hold one sequence,
    `decoder_attention_mask` bool `[batch, decoder, cache length]` tells what a token sees, and
    `decoder_positions` int `[1, decoder]` its position.
    """

    config_class = TransformerConfig
    presets = {
        # Vaswani et al. 2017, table 3, and section 5.1 for the vocabulary
        "transformer_base": TransformerConfig(),
        "transformer_big": TransformerConfig(
            hidden_dim=1024, num_heads=16, intermediate_dim=4096, dropout=0.3
        ),
        # Tiedemann & Thottingal 2020: opus-mt, from English to German
        "marian_base": TransformerConfig(
            model_type="marian",
            vocab_size=58101,
            max_length=512,
            positions="halves",
            activation="silu",
            logits_bias=True,
            pad_id=58100,
            bos_id=None,
            eos_id=0,
            decoder_start_id=58100,
            initializer_range=0.02,
        ),
        # Lewis et al. 2019, sections 4 and 5
        "bart_base": _bart(6, 768, 12),
        "bart_large": _bart(12, 1024, 16),
    }
    layouts = LAYOUTS

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        c, dtype = config, self.dtype_policy

        def token_embedding(vocab_size, name):
            initializer = _embedding_initializer(c)
            return TokenEmbedding(vocab_size, c.hidden_dim, initializer, dtype=dtype, name=name)

        self.token_embedding = token_embedding(c.vocab_size, "token_embedding")
        self.decoder_token_embedding = self.token_embedding
        if not c.share_embeddings:
            self.decoder_token_embedding = token_embedding(
                c.target_vocab_size, "decoder_token_embedding"
            )
        self.encoder = _Stack(c, self.token_embedding, cross=False, dtype=dtype, name="encoder")
        self.decoder = _Stack(
            c, self.decoder_token_embedding, cross=True, dtype=dtype, name="decoder"
        )
        self.head = None
        if not c.tie_head:
            self.head = Dense(
                c.target_vocab_size,
                use_bias=False,
                kernel_initializer=_kernel_initializer(c),
                dtype=dtype,
                name="head",
            )
        self.build()

    def build(self, inputs_shape=None):
        tokens = (None, None)
        self.token_embedding.build(tokens)
        if not self.config.share_embeddings:
            self.decoder_token_embedding.build(tokens)
        self.encoder.build(tokens)
        self.decoder.build(tokens)
        if self.head is not None:
            self.head.build((None, None, self.config.hidden_dim))
        self.logits_bias = None
        if self.config.logits_bias:
            self.logits_bias = self.add_weight(
                name="logits_bias", shape=(1, self.config.target_vocab_size), initializer="zeros"
            )
        self.built = True

    def call(self, inputs, training=None, cache=None, cache_index=None, return_hidden_states=False):
        outputs = {}
        if cache is None:
            outputs["encoder_output"], encoder_hidden_states = self._encode(inputs, training)
            if return_hidden_states:
                outputs["encoder_hidden_states"] = encoder_hidden_states
        x, hidden_states, new_cache = self.decoder(
            inputs["decoder_token_ids"],
            context=outputs.get("encoder_output"),
            padding_mask=inputs.get("decoder_padding_mask"),
            context_padding_mask=inputs.get("encoder_padding_mask"),
            attention_mask=inputs.get("decoder_attention_mask"),
            positions=inputs.get("decoder_positions"),
            cache=cache,
            cache_index=cache_index,
            training=training,
        )
        outputs["sequence_output"] = x
        outputs["logits"] = self.logits(x)
        if cache is not None:
            outputs["cache"] = new_cache
        if return_hidden_states:
            outputs["hidden_states"] = hidden_states
        return outputs

    def encode(self, inputs, training=None):
        """`encoder_output` `[batch, encoder, hidden]` of the inputs for the encoder."""
        return self._encode(inputs, training)[0]

    def make_cache(self, encoder_output, length):
        """An empty cache for `length` positions of the decoder, with the encoder's keys and values.

        For each block `{"self": (key, value), "cross": (key, value)}`.
        """
        batch = ops.shape(encoder_output)[0]
        return [block.make_cache(batch, length, encoder_output) for block in self.decoder.blocks]

    def _encode(self, inputs, training):
        x, hidden_states, _ = self.encoder(
            inputs["encoder_token_ids"],
            padding_mask=inputs.get("encoder_padding_mask"),
            training=training,
        )
        return x, hidden_states

    def logits(self, sequence_output):
        """`[…, vocab]` from the decoder's `sequence_output` `[…, hidden]`."""
        head = self.head or self.decoder_token_embedding.logits
        logits = head(sequence_output)
        if self.logits_bias is not None:
            logits = logits + ops.cast(self.logits_bias, logits.dtype)
        return logits

    @classmethod
    def config_for(cls, config, directory):
        has_bias = checkpoint.contains(directory, "final_logits_bias")
        return dataclasses.replace(config, logits_bias=has_bias)


def _embedding_initializer(config):
    deviation = config.initializer_range or config.hidden_dim**-0.5
    return keras.initializers.RandomNormal(stddev=deviation)


def _kernel_initializer(config):
    if config.initializer_range is None:
        return keras.initializers.GlorotUniform()
    return keras.initializers.RandomNormal(stddev=config.initializer_range)
