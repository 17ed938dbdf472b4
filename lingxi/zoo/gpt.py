"""GPT: Transformer decoders that predict the next token (Radford et al. 2018, 2019).

GPT-3 (Brown et al. 2020) alternates dense and locally banded attention; GPT-Neo (Black et al.
2021) does too, and does not scale its scores.
"""

import dataclasses

import keras
from keras import ops

from lingxi.layers import LayerNorm, PositionEmbedding, TokenEmbedding, TransformerBlock
from lingxi.zoo.backbone import Backbone
from lingxi.zoo.huggingface.gpt import LAYOUTS


@dataclasses.dataclass(frozen=True)
class GptConfig:
    """Sizes and rates of a `Gpt`.

    Attributes:
        model_type: "openai-gpt" (GPT-1), "gpt2", "gpt3" or "gpt_neo".
        head_dim: width of one head, by default `hidden_dim / num_heads`.
        intermediate_dim: by default `4 * hidden_dim`.
        attention_windows: how many of the last tokens each layer sees, None for all; repeated
            over the layers: `(None, 256)` alternates dense and banded ones.
        norm_first: False for GPT-1, which is post-norm and has no norm at the end.
        scale_scores: False for GPT-Neo.
        query_key_value_bias: False for GPT-Neo.
        dropout: rate on the output of each sublayer.
    """

    model_type: str = "gpt2"
    vocab_size: int = 50257
    hidden_dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    head_dim: int | None = None
    intermediate_dim: int | None = None
    max_length: int = 1024
    attention_windows: tuple = (None,)
    activation: str = "gelu_tanh"
    norm_first: bool = True
    scale_scores: bool = True
    query_key_value_bias: bool = True
    dropout: float = 0.1
    embedding_dropout: float = 0.1
    attention_dropout: float = 0.1
    norm_epsilon: float = 1e-5
    initializer_range: float = 0.02

    def __post_init__(self):
        object.__setattr__(self, "attention_windows", tuple(self.attention_windows))
        if self.intermediate_dim is None:
            object.__setattr__(self, "intermediate_dim", 4 * self.hidden_dim)

    @property
    def windows(self):
        """The window of each layer."""
        pattern = self.attention_windows
        return tuple(pattern[index % len(pattern)] for index in range(self.num_layers))

    @property
    def num_parameters(self):
        h, i = self.hidden_dim, self.intermediate_dim
        heads = self.num_heads * (self.head_dim or h // self.num_heads)
        attention = 4 * h * heads + h + 3 * heads * self.query_key_value_bias
        block = attention + (h * i + i) + (i * h + h) + 4 * h
        final_norm = 2 * h * self.norm_first
        return (self.vocab_size + self.max_length) * h + self.num_layers * block + final_norm


def _gpt(layers, hidden, heads, **others):
    return GptConfig(num_layers=layers, hidden_dim=hidden, num_heads=heads, **others)


def _gpt3(layers, hidden, heads, head_dim):
    # The paper leaves the width of the band open; this is GPT-Neo's.
    return _gpt(
        layers,
        hidden,
        heads,
        head_dim=head_dim,
        model_type="gpt3",
        max_length=2048,
        attention_windows=(None, 256),
    )


def _gpt_neo(layers, hidden, heads):
    return _gpt(
        layers,
        hidden,
        heads,
        model_type="gpt_neo",
        max_length=2048,
        attention_windows=(None, 256),
        scale_scores=False,
        query_key_value_bias=False,
        dropout=0.0,
        embedding_dropout=0.0,
        attention_dropout=0.0,
    )


@keras.saving.register_keras_serializable(package="lingxi")
class Gpt(Backbone):
    """A causal language model: GPT-1, GPT-2, GPT-3 or GPT-Neo; the head is the embedding table.

    Inputs, a dict: `token_ids` int `[batch, seq]`; `padding_mask` bool `[batch, seq]`, True for
    real tokens, all real if left out; `positions` int `[batch, seq]`, counted from 0 (or from
    `cache_index`) if left out.

    Outputs, a dict: `sequence_output` `[batch, seq, hidden]`; `logits` `[batch, seq, vocab]`; with
    `return_hidden_states=True` also `hidden_states`, the embeddings and the output of every block.

    Step by step: give `cache`, from `make_cache`, and `cache_index`, the position of the first of
    `token_ids` in it; `padding_mask` is then `[batch, cache length]`. The outputs have the updated
    `cache`. Where the cache does not hold one sequence, `attention_mask` bool
    `[batch, seq, cache length]` tells what a token sees, and `cache_positions` int
    `[batch, cache length]` the position of what is there.
    """

    config_class = GptConfig
    presets = {
        # Radford et al. 2018; Radford et al. 2019, table 2
        "gpt1": _gpt(
            12,
            768,
            12,
            model_type="openai-gpt",
            vocab_size=40478,
            max_length=512,
            norm_first=False,
        ),
        "gpt2_small": _gpt(12, 768, 12),
        "gpt2_medium": _gpt(24, 1024, 16),
        "gpt2_large": _gpt(36, 1280, 20),
        "gpt2_xl": _gpt(48, 1600, 25),
        # Brown et al. 2020, table 2.1. Its 24 heads of 128 do not fit the XL's width of 2048 nor
        # its 1.3 billion parameters; 16 heads do.
        "gpt3_small": _gpt3(12, 768, 12, 64),
        "gpt3_medium": _gpt3(24, 1024, 16, 64),
        "gpt3_large": _gpt3(24, 1536, 16, 96),
        "gpt3_xl": _gpt3(24, 2048, 16, 128),
        "gpt3_2.7b": _gpt3(32, 2560, 32, 80),
        "gpt3_6.7b": _gpt3(32, 4096, 32, 128),
        "gpt3_13b": _gpt3(40, 5140, 40, 128),
        "gpt3_175b": _gpt3(96, 12288, 96, 128),
        # Black et al. 2021
        "gpt_neo_125m": _gpt_neo(12, 768, 12),
        "gpt_neo_1.3b": _gpt_neo(24, 2048, 16),
        "gpt_neo_2.7b": _gpt_neo(32, 2560, 20),
    }
    layouts = LAYOUTS

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        c, dtype = config, self.dtype_policy

        def initializer():
            return keras.initializers.RandomNormal(stddev=c.initializer_range)

        self.token_embedding = TokenEmbedding(
            c.vocab_size, c.hidden_dim, initializer(), dtype=dtype, name="token_embedding"
        )
        self.position_embedding = PositionEmbedding(
            c.max_length, c.hidden_dim, initializer(), dtype=dtype, name="position_embedding"
        )
        self.embedding_dropout = keras.layers.Dropout(
            c.embedding_dropout, dtype=dtype, name="embedding_dropout"
        )
        self.blocks = [
            TransformerBlock(
                c.num_heads,
                c.intermediate_dim,
                activation=c.activation,
                dropout=c.dropout,
                attention_dropout=c.attention_dropout,
                norm_first=c.norm_first,
                norm_epsilon=c.norm_epsilon,
                head_dim=c.head_dim,
                attention_scale=None if c.scale_scores else 1.0,
                query_key_value_bias=c.query_key_value_bias,
                kernel_initializer=initializer(),
                dtype=dtype,
                name=f"block_{index}",
            )
            for index in range(c.num_layers)
        ]
        self.final_norm = None
        if c.norm_first:
            self.final_norm = LayerNorm(epsilon=c.norm_epsilon, dtype=dtype, name="final_norm")
        self.build()

    def build(self, inputs_shape=None):
        tokens, hidden = (None, None), (None, None, self.config.hidden_dim)
        self.token_embedding.build(tokens)
        self.position_embedding.build(tokens)
        for layer in (*self.blocks, self.final_norm):
            if layer is not None:
                layer.build(hidden)
        self.built = True

    def call(self, inputs, training=None, cache=None, cache_index=None, return_hidden_states=False):
        token_ids = inputs["token_ids"]
        positions = inputs.get("positions")
        if positions is None and cache is not None:
            positions = ops.expand_dims(ops.arange(ops.shape(token_ids)[1]) + cache_index, 0)

        x = self.token_embedding(token_ids) + self.position_embedding(token_ids, positions)
        x = self.embedding_dropout(x, training=training)  # [batch, seq, hidden]
        hidden_states, new_cache = [x], []
        for index, block in enumerate(self.blocks):
            x = block(
                x,
                padding_mask=inputs.get("padding_mask"),
                **self._sight(inputs, positions, self.config.windows[index]),
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

        outputs = {"sequence_output": x, "logits": self.logits(x)}
        if cache is not None:
            outputs["cache"] = new_cache
        if return_hidden_states:
            outputs["hidden_states"] = tuple(hidden_states)
        return outputs

    def _sight(self, inputs, positions, window):
        """What a token sees: what is before it, in a band the last `window` of it."""
        mask = inputs.get("attention_mask")
        if mask is None:
            return {"causal": True, "window": window}
        if window is not None:
            distance = ops.expand_dims(positions, 2) - ops.expand_dims(inputs["cache_positions"], 1)
            mask = ops.logical_and(mask, distance < window)  # [batch, seq, cache length]
        return {"attention_mask": mask}

    def logits(self, sequence_output):
        """`[…, vocab]` from `sequence_output` `[…, hidden]`."""
        return self.token_embedding.logits(sequence_output)

    def make_cache(self, batch, length):
        """An empty cache for `length` positions: for each block `{"self": (key, value)}`."""
        return [block.make_cache(batch, length) for block in self.blocks]
