"""T5: an encoder and a decoder that turn text into text (Raffel et al. 2020).

T5 1.1 (Shazeer 2020, "GLU variants"), whose sizes Flan-T5 has (Chung et al. 2022), gates its
feed-forward networks and gives the decoder a head of its own.
"""

import dataclasses

import keras
from keras import ops

from lingxi.layers import Dense, RelativePositionBias, RMSNorm, TokenEmbedding, TransformerBlock
from lingxi.zoo.backbone import Backbone
from lingxi.zoo.huggingface.t5 import LAYOUTS, has_own_head


@dataclasses.dataclass(frozen=True)
class T5Config:
    """Sizes and rates of a `T5`.

    Attributes:
        head_dim: width of one head; `num_heads * head_dim` need not be `hidden_dim`.
        num_buckets, max_distance: see `lingxi.layers.RelativePositionBias`.
        gated: a gate in the feed-forward networks, as in T5 1.1.
        dropout: rate on the embeddings, the attention weights, inside the feed-forward networks,
            on the output of each sublayer and after the last norm.
        tie_head: the head is the embedding table; False for T5 1.1.
        scale_head: multiply by `hidden_dim ** -0.5` before the head; False for T5 1.1.
        decoder_start_id: what the decoder's input begins with.
    """

    model_type: str = "t5"
    vocab_size: int = 32128
    hidden_dim: int = 512
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    num_heads: int = 8
    head_dim: int = 64
    intermediate_dim: int = 2048
    num_buckets: int = 32
    max_distance: int = 128
    activation: str = "relu"
    gated: bool = False
    dropout: float = 0.1
    norm_epsilon: float = 1e-6
    tie_head: bool = True
    scale_head: bool = True
    pad_id: int = 0
    eos_id: int = 1
    decoder_start_id: int = 0

    @property
    def num_parameters(self):
        h, i, heads = self.hidden_dim, self.intermediate_dim, self.num_heads
        attention = 4 * h * heads * self.head_dim + h
        feed_forward = (2 + self.gated) * h * i + h
        encoder = self.num_encoder_layers * (attention + feed_forward)
        decoder = self.num_decoder_layers * (2 * attention + feed_forward)
        bias_and_norm = self.num_buckets * heads + h  # of each stack
        tables = (1 if self.tie_head else 2) * self.vocab_size * h
        return tables + encoder + decoder + 2 * bias_and_norm


def _t5(layers, hidden, heads, head_dim, intermediate, **others):
    return T5Config(
        num_encoder_layers=layers,
        num_decoder_layers=layers,
        hidden_dim=hidden,
        num_heads=heads,
        head_dim=head_dim,
        intermediate_dim=intermediate,
        **others,
    )


_V1_1 = {"activation": "gelu_tanh", "gated": True, "tie_head": False, "scale_head": False}


@keras.saving.register_keras_serializable(package="lingxi")
class T5(Backbone):
    """An encoder–decoder with relative position biases: T5, T5 1.1 or Flan-T5.

    Inputs, a dict: `encoder_token_ids` int `[batch, encoder]`; `decoder_token_ids` int
    `[batch, decoder]`, of which the first is `decoder_start_id`; `encoder_padding_mask` and
    `decoder_padding_mask` bool of the same shapes, True for real tokens, all real if left out.

    Outputs, a dict: `encoder_output` `[batch, encoder, hidden]`; `sequence_output`
    `[batch, decoder, hidden]`; `logits` `[batch, decoder, vocab]`; with
    `return_hidden_states=True` also `encoder_hidden_states` and `hidden_states`, the embeddings
    and the output of every block, the last one after the last norm.

    Step by step: `encode` the inputs, give its output to `make_cache`, and then call with `cache`
    and `cache_index`, the position of the first of `decoder_token_ids` in it. The inputs need
    then no `encoder_token_ids`, and `decoder_padding_mask` is `[batch, cache length]`; the outputs
    have the updated `cache` and nothing of the encoder. Where the cache does not hold one sequence,
    `decoder_attention_mask` bool `[batch, decoder, cache length]` tells what a token sees,
    `decoder_positions` int `[1, decoder]` its position, and `decoder_cache_positions` int
    `[1, cache length]` the position of what is there.
    """

    config_class = T5Config
    presets = {
        # Raffel et al. 2020, section 3.7
        "t5_small": _t5(6, 512, 8, 64, 2048),
        "t5_base": _t5(12, 768, 12, 64, 3072),
        "t5_large": _t5(24, 1024, 16, 64, 4096),
        "t5_3b": _t5(24, 1024, 32, 128, 16384),
        "t5_11b": _t5(24, 1024, 128, 128, 65536),
        # github.com/google-research/text-to-text-transfer-transformer, released_checkpoints.md
        "t5_v1_1_small": _t5(8, 512, 6, 64, 1024, **_V1_1),
        "t5_v1_1_base": _t5(12, 768, 12, 64, 2048, **_V1_1),
        "t5_v1_1_large": _t5(24, 1024, 16, 64, 2816, **_V1_1),
        "t5_v1_1_xl": _t5(24, 2048, 32, 64, 5120, **_V1_1),
        "t5_v1_1_xxl": _t5(24, 4096, 64, 64, 10240, **_V1_1),
    }
    layouts = LAYOUTS

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        c, dtype = config, self.dtype_policy

        def fan_in():
            return keras.initializers.VarianceScaling(distribution="untruncated_normal")

        def position_bias(name, bidirectional):
            return RelativePositionBias(
                c.num_heads,
                c.num_buckets,
                c.max_distance,
                bidirectional,
                keras.initializers.RandomNormal(stddev=c.hidden_dim**-0.5),
                dtype=dtype,
                name=name,
            )

        def blocks(name, count, cross):
            return [
                TransformerBlock(
                    c.num_heads,
                    c.intermediate_dim,
                    activation=c.activation,
                    gated=c.gated,
                    cross=cross,
                    dropout=c.dropout,
                    attention_dropout=c.dropout,
                    activation_dropout=c.dropout,
                    norm="rms",
                    norm_first=True,
                    norm_epsilon=c.norm_epsilon,
                    head_dim=c.head_dim,
                    attention_scale=1.0,
                    use_bias=False,
                    kernel_initializer=fan_in(),
                    dtype=dtype,
                    name=f"{name}_{index}",
                )
                for index in range(count)
            ]

        def norm(name):
            return RMSNorm(epsilon=c.norm_epsilon, dtype=dtype, name=name)

        self.token_embedding = TokenEmbedding(
            c.vocab_size,
            c.hidden_dim,
            keras.initializers.RandomNormal(stddev=1.0),
            dtype=dtype,
            name="token_embedding",
        )
        self.encoder_position_bias = position_bias("encoder_position_bias", bidirectional=True)
        self.encoder_blocks = blocks("encoder_block", c.num_encoder_layers, cross=False)
        self.encoder_norm = norm("encoder_norm")
        self.decoder_position_bias = position_bias("decoder_position_bias", bidirectional=False)
        self.decoder_blocks = blocks("decoder_block", c.num_decoder_layers, cross=True)
        self.decoder_norm = norm("decoder_norm")
        self.stack_dropout = keras.layers.Dropout(c.dropout, dtype=dtype, name="stack_dropout")
        self.head = None
        if not c.tie_head:
            self.head = Dense(
                c.vocab_size,
                use_bias=False,
                kernel_initializer=fan_in(),
                dtype=dtype,
                name="head",
            )
        self.build()

    def build(self, inputs_shape=None):
        hidden = (None, None, self.config.hidden_dim)
        self.token_embedding.build((None, None))
        self.encoder_position_bias.build()
        self.decoder_position_bias.build()
        norms = (self.encoder_norm, self.decoder_norm)
        for layer in (*self.encoder_blocks, *self.decoder_blocks, *norms, self.head):
            if layer is not None:
                layer.build(hidden)
        self._shrink_queries()
        self.built = True

    def _shrink_queries(self):
        """T5 does not scale its scores: the kernels of its queries start smaller instead."""
        width, scale = self.config.num_heads * self.config.head_dim, self.config.head_dim**-0.5
        for block in (*self.encoder_blocks, *self.decoder_blocks):
            kernel = block.attention.query_key_value_dense.kernel
            if kernel._value is None:  # in `from_preset`, which loads the weights next
                return
            query, key_value = ops.split(kernel, [width], axis=-1)
            kernel.assign(ops.concatenate([query * scale, key_value], axis=-1))
            if block.cross:
                kernel = block.cross_attention.query_dense.kernel
                kernel.assign(kernel * scale)

    def call(self, inputs, training=None, cache=None, cache_index=None, return_hidden_states=False):
        outputs, encoder_output = {}, None
        if cache is None:
            encoder_states = self._encoder_states(inputs, training)
            encoder_output = outputs["encoder_output"] = encoder_states[-1]
            if return_hidden_states:
                outputs["encoder_hidden_states"] = encoder_states
        states, new_cache = self._decoder_states(
            inputs, encoder_output, cache, cache_index, training
        )
        outputs["sequence_output"] = states[-1]
        outputs["logits"] = self.logits(states[-1])
        if cache is not None:
            outputs["cache"] = new_cache
        if return_hidden_states:
            outputs["hidden_states"] = states
        return outputs

    def encode(self, inputs, training=None):
        """`[batch, encoder, hidden]` from `encoder_token_ids` and their mask."""
        return self._encoder_states(inputs, training)[-1]

    def make_cache(self, encoder_output, length):
        """A cache for `length` positions of the decoder, for each block a dict.

        "self" is empty, "cross" has the keys and values of `encoder_output`; each is a pair
        `[batch, heads, positions, head_dim]`.
        """
        batch = ops.shape(encoder_output)[0]
        return [block.make_cache(batch, length, encoder_output) for block in self.decoder_blocks]

    def _encoder_states(self, inputs, training):
        token_ids = inputs["encoder_token_ids"]
        positions = ops.arange(ops.shape(token_ids)[1])
        bias = self.encoder_position_bias(positions, positions)  # [1, heads, encoder, encoder]

        x = self.stack_dropout(self.token_embedding(token_ids), training=training)
        states = [x]
        for block in self.encoder_blocks:
            x = block(
                x,
                padding_mask=inputs.get("encoder_padding_mask"),
                position_bias=bias,
                training=training,
            )
            states.append(x)
        states[-1] = self.stack_dropout(self.encoder_norm(x), training=training)
        return tuple(states)

    def _decoder_states(self, inputs, encoder_output, cache, cache_index, training):
        token_ids = inputs["decoder_token_ids"]
        attention_mask = inputs.get("decoder_attention_mask")
        queries = keys = ops.arange(ops.shape(token_ids)[1])
        if cache is not None:
            queries = queries + cache_index
            keys = ops.arange(ops.shape(cache[0]["self"][0])[2])
        if attention_mask is not None:
            queries = ops.reshape(inputs["decoder_positions"], (-1,))
            keys = ops.reshape(inputs["decoder_cache_positions"], (-1,))
        bias = self.decoder_position_bias(queries, keys)  # [1, heads, decoder, decoder or cache]

        x = self.stack_dropout(self.token_embedding(token_ids), training=training)
        states, new_cache = [x], []
        for index, block in enumerate(self.decoder_blocks):
            x = block(
                x,
                context=encoder_output,
                padding_mask=inputs.get("decoder_padding_mask"),
                context_padding_mask=inputs.get("encoder_padding_mask"),
                attention_mask=attention_mask,
                position_bias=bias,
                causal=attention_mask is None,
                cache=None if cache is None else cache[index],
                cache_index=cache_index,
                training=training,
            )
            if cache is not None:
                x, block_cache = x
                new_cache.append(block_cache)
            states.append(x)
        states[-1] = self.stack_dropout(self.decoder_norm(x), training=training)
        return tuple(states), new_cache

    def logits(self, sequence_output):
        """`[…, vocab]` from the decoder's `sequence_output` `[…, hidden]`."""
        if self.config.scale_head:
            sequence_output = sequence_output * self.config.hidden_dim**-0.5
        head = self.head or self.token_embedding.logits
        return head(sequence_output)

    @classmethod
    def config_for(cls, config, directory):
        return dataclasses.replace(config, tie_head=not has_own_head(directory))
