"""BERT (Devlin et al. 2018) and its kin: bidirectional Transformer encoders.

RoBERTa (Liu et al. 2019), DistilBERT (Sanh et al. 2019) and the encoder of ELECTRA (Clark et al.
2020) differ from BERT by what `BertConfig` says, and in how Hugging Face names their weights.
"""

import dataclasses

import keras
from absl import logging
from keras import ops

from lingxi.layers import (
    Dense,
    LayerNorm,
    Pooler,
    PositionEmbedding,
    SegmentEmbedding,
    TokenEmbedding,
    TransformerBlock,
)
from lingxi.zoo import checkpoint
from lingxi.zoo.backbone import Backbone
from lingxi.zoo.huggingface.bert import LAYOUTS


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """Sizes and rates of a `Bert`.

    Attributes:
        model_type: "bert", "roberta", "distilbert" or "electra": whose checkpoints these are.
        max_length: the longest sequence, in tokens.
        num_segments: 0 for a model without segment embeddings.
        embedding_dim: width of the embeddings where it is not `hidden_dim`: a product widens them.
        position_offset: of RoBERTa: rows of the position table before that of the first token;
            padding, which is told by `pad_id`, has the last of them and is not counted.
        pooler: whether there is a pooler.
        head_dim: width of a head where it is not `hidden_dim / num_heads`: some heads were removed.
    """

    model_type: str = "bert"
    vocab_size: int = 30522
    hidden_dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_dim: int = 3072
    max_length: int = 512
    num_segments: int = 2
    embedding_dim: int | None = None
    position_offset: int = 0
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    norm_epsilon: float = 1e-12
    initializer_range: float = 0.02
    pooler: bool = True
    pad_id: int = 0
    head_dim: int | None = None

    def __post_init__(self):
        if self.embedding_dim == self.hidden_dim:
            object.__setattr__(self, "embedding_dim", None)
        if self.head_dim is not None and self.head_dim * self.num_heads == self.hidden_dim:
            object.__setattr__(self, "head_dim", None)

    @property
    def attention_dim(self):
        """Width of the queries of all heads, of their keys and of their values."""
        return self.hidden_dim if self.head_dim is None else self.num_heads * self.head_dim

    @property
    def num_parameters(self):
        h, i, e = self.hidden_dim, self.intermediate_dim, self.embedding_dim or self.hidden_dim
        a = self.attention_dim
        rows = self.vocab_size + self.max_length + self.position_offset + self.num_segments
        embeddings = rows * e + 2 * e
        if self.embedding_dim is not None:
            embeddings += e * h + h
        block = 3 * (h * a + a) + (a * h + h) + (h * i + i) + (i * h + h) + 4 * h
        return embeddings + self.num_layers * block + self.pooler * (h * h + h)


def _bert(layers, hidden, heads, **others):
    return BertConfig(
        num_layers=layers, hidden_dim=hidden, num_heads=heads, intermediate_dim=4 * hidden, **others
    )


def _roberta(layers, hidden, heads):
    return _bert(
        layers,
        hidden,
        heads,
        model_type="roberta",
        vocab_size=50265,
        num_segments=1,
        position_offset=2,
        norm_epsilon=1e-5,
        pad_id=1,
    )


def _with_heads(layout):
    """`layout`, which also says how wide heads are where some were removed."""

    def write(config, contents):
        contents = layout.write(config, contents)
        if config.head_dim is None:
            return {key: value for key, value in contents.items() if key != "head_dim"}
        logging.warning(
            "this encoder has %d heads of %d in a width of %d, since others were removed: lingxi "
            "reads what it writes of it, but transformers cannot",
            config.num_heads,
            config.head_dim,
            config.hidden_dim,
        )
        return contents

    fields = {**layout.fields, "head_dim": "head_dim"}
    return dataclasses.replace(layout, fields=fields, write=write)


_DISTILBERT = {"model_type": "distilbert", "num_segments": 0, "pooler": False}
_ELECTRA = {"model_type": "electra", "pooler": False}


@keras.saving.register_keras_serializable(package="lingxi")
class Bert(Backbone):
    """A bidirectional encoder: BERT with its pooler, RoBERTa, DistilBERT, ELECTRA.

    Inputs, a dict: `token_ids` int `[batch, seq]`; `segment_ids` int `[batch, seq]`, zeros if left
    out; `padding_mask` bool `[batch, seq]`, True for real tokens, all real if left out.

    Outputs, a dict: `sequence_output` `[batch, seq, hidden]`; `pooled_output` `[batch, hidden]`
    where there is a pooler; with `return_hidden_states=True` also `hidden_states`, the embeddings
    and the output of every block. With `num_positions=n` the last block computes the outputs of
    the first `n` tokens only: a classifier reads no other, and `sequence_output` is
    `[batch, n, hidden]`.
    """

    config_class = BertConfig
    presets = {
        # Turc et al. 2019, table 1; Devlin et al. 2018, section 3
        "bert_tiny": _bert(2, 128, 2),
        "bert_mini": _bert(4, 256, 4),
        "bert_small": _bert(4, 512, 8),
        "bert_medium": _bert(8, 512, 8),
        "bert_base": _bert(12, 768, 12),
        "bert_large": _bert(24, 1024, 16),
        "minilm_l6_en_uncased": _bert(6, 384, 12),
        # Liu et al. 2019; Sanh et al. 2019; Clark et al. 2020, table 6
        "roberta_base": _roberta(12, 768, 12),
        "roberta_large": _roberta(24, 1024, 16),
        "distilbert_base": _bert(6, 768, 12, **_DISTILBERT),
        "electra_small": _bert(12, 256, 4, embedding_dim=128, **_ELECTRA),
        "electra_base": _bert(12, 768, 12, **_ELECTRA),
        "electra_large": _bert(24, 1024, 16, **_ELECTRA),
    }
    layouts = {model_type: _with_heads(layout) for model_type, layout in LAYOUTS.items()}

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        c, dtype = config, self.dtype_policy
        width = c.embedding_dim or c.hidden_dim

        def initializer():
            return keras.initializers.TruncatedNormal(stddev=c.initializer_range)

        self.token_embedding = TokenEmbedding(
            c.vocab_size, width, initializer(), dtype=dtype, name="token_embedding"
        )
        self.position_embedding = PositionEmbedding(
            c.max_length,
            width,
            initializer(),
            offset=c.position_offset,
            dtype=dtype,
            name="position_embedding",
        )
        self.segment_embedding = None
        if c.num_segments:
            self.segment_embedding = SegmentEmbedding(
                c.num_segments, width, initializer(), dtype=dtype, name="segment_embedding"
            )
        self.embedding_norm = LayerNorm(epsilon=c.norm_epsilon, dtype=dtype, name="embedding_norm")
        self.embedding_dropout = keras.layers.Dropout(
            c.dropout, dtype=dtype, name="embedding_dropout"
        )
        self.embedding_projection = None
        if c.embedding_dim is not None:
            self.embedding_projection = Dense(
                c.hidden_dim,
                kernel_initializer=initializer(),
                dtype=dtype,
                name="embedding_projection",
            )
        self.blocks = [
            TransformerBlock(
                c.num_heads,
                c.intermediate_dim,
                activation=c.activation,
                dropout=c.dropout,
                attention_dropout=c.attention_dropout,
                norm_epsilon=c.norm_epsilon,
                head_dim=c.head_dim,
                kernel_initializer=initializer(),
                dtype=dtype,
                name=f"block_{index}",
            )
            for index in range(c.num_layers)
        ]
        self.pooler = None
        if c.pooler:
            self.pooler = Pooler(c.hidden_dim, initializer(), dtype=dtype, name="pooler")
        self.build()

    def build(self, inputs_shape=None):
        tokens, hidden = (None, None), (None, None, self.config.hidden_dim)
        embedded = (None, None, self.config.embedding_dim or self.config.hidden_dim)
        embeddings = (self.token_embedding, self.position_embedding, self.segment_embedding)
        for shape, layers in (
            (tokens, embeddings),
            (embedded, (self.embedding_norm, self.embedding_projection)),
            (hidden, (*self.blocks, self.pooler)),
        ):
            for layer in layers:
                if layer is not None:
                    layer.build(shape)
        self.built = True

    def call(self, inputs, training=None, return_hidden_states=False, num_positions=None):
        token_ids = inputs["token_ids"]
        padding_mask = inputs.get("padding_mask")

        x = self.token_embedding(token_ids)
        if self.segment_embedding is not None:
            segment_ids = inputs.get("segment_ids")
            if segment_ids is None:
                segment_ids = ops.zeros_like(token_ids)
            x = x + self.segment_embedding(segment_ids)
        x = x + self.position_embedding(token_ids, self._positions(token_ids))
        x = self.embedding_dropout(self.embedding_norm(x), training=training)
        if self.embedding_projection is not None:
            x = self.embedding_projection(x)  # [batch, seq, hidden]
        hidden_states = [x]
        for block in self.blocks:
            x = block(
                x,
                padding_mask=padding_mask,
                num_positions=num_positions if block is self.blocks[-1] else None,
                training=training,
            )
            hidden_states.append(x)

        outputs = {"sequence_output": x}
        if self.pooler is not None:
            outputs["pooled_output"] = self.pooler(x)
        if return_hidden_states:
            outputs["hidden_states"] = tuple(hidden_states)
        return outputs

    def _positions(self, token_ids):
        """None where all tokens are counted; `[batch, seq]` where padding is not and has -1."""
        if not self.config.position_offset:
            return None
        self.position_embedding.check_length(token_ids.shape[1])
        real = ops.cast(token_ids != self.config.pad_id, "int32")
        count = ops.cumsum(real, axis=1)  # 1 for the first real token
        return count * real - 1

    @classmethod
    def config_for(cls, config, directory):
        has_pooler = checkpoint.contains(directory, "pooler.dense.weight")
        return dataclasses.replace(config, pooler=has_pooler)
