"""BERT (Devlin et al. 2018): a bidirectional Transformer encoder."""

import dataclasses

import keras

from lingxi.layers import (
    EncoderBlock,
    LayerNorm,
    Pooler,
    PositionEmbedding,
    SegmentEmbedding,
    TokenEmbedding,
)
from lingxi.zoo import checkpoint, preset

_SIZES = {
    # preset: (layers, hidden, heads); Turc et al. 2019, table 1, and Devlin et al. 2018
    "bert_tiny": (2, 128, 2),
    "bert_mini": (4, 256, 4),
    "bert_small": (4, 512, 8),
    "bert_medium": (8, 512, 8),
    "bert_base": (12, 768, 12),
    "bert_large": (24, 1024, 16),
    "minilm_l6_en_uncased": (6, 384, 12),
}
_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"} | {
    name: name for name in ("relu", "silu", "tanh")
}


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """Sizes and rates of a `Bert`."""

    vocab_size: int = 30522
    hidden_dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_dim: int = 3072
    max_length: int = 512
    num_segments: int = 2
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    norm_epsilon: float = 1e-12
    initializer_range: float = 0.02
    pooler: bool = True
    pad_id: int = 0

    @property
    def num_parameters(self):
        h, i = self.hidden_dim, self.intermediate_dim
        embeddings = (self.vocab_size + self.max_length + self.num_segments) * h + 2 * h
        block = 4 * (h * h + h) + (h * i + i) + (i * h + h) + 4 * h
        return embeddings + self.num_layers * block + self.pooler * (h * h + h)

    @classmethod
    def from_huggingface(cls, config):
        """From the contents of a `config.json`.

        Raises:
            ValueError: for a variant of BERT that this architecture is not.
        """
        for key, accepted in (("position_embedding_type", "absolute"), ("is_decoder", False)):
            if config.get(key, accepted) != accepted:
                raise ValueError(f"config.json has {key}={config[key]!r}; supported: {accepted!r}")
        if config["hidden_act"] not in _ACTIVATIONS:
            raise ValueError(
                f"config.json has hidden_act={config['hidden_act']!r}; "
                f"supported: {', '.join(_ACTIVATIONS)}"
            )
        return cls(
            activation=_ACTIVATIONS[config["hidden_act"]],
            **{ours: config[theirs] for ours, theirs in _FIELDS.items() if theirs in config},
        )

    def to_huggingface(self):
        """The contents of a `config.json`."""
        activation = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}
        return {
            "model_type": "bert",
            "architectures": ["BertModel"],
            "hidden_act": activation[self.activation],
            **{theirs: getattr(self, ours) for ours, theirs in _FIELDS.items()},
        }


_FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_dim": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_dim": "intermediate_size",
    "max_length": "max_position_embeddings",
    "num_segments": "type_vocab_size",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "norm_epsilon": "layer_norm_eps",
    "initializer_range": "initializer_range",
    "pad_id": "pad_token_id",
}


@keras.saving.register_keras_serializable(package="lingxi")
class Bert(keras.Model):
    """The encoder of BERT, with its pooler.

    Inputs, a dict: `token_ids` int `[batch, seq]`; `segment_ids` int `[batch, seq]`, zeros if left
    out; `padding_mask` bool `[batch, seq]`, True for real tokens, all real if left out.

    Outputs, a dict: `sequence_output` `[batch, seq, hidden]`; `pooled_output` `[batch, hidden]`
    where there is a pooler; with `return_hidden_states=True` also `hidden_states`, the embeddings
    and the output of every block.
    """

    presets = {
        name: BertConfig(
            num_layers=layers, hidden_dim=hidden, num_heads=heads, intermediate_dim=4 * hidden
        )
        for name, (layers, hidden, heads) in _SIZES.items()
    }

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        dtype = self.dtype_policy
        c, initializer = config, _initializer(config)
        self.token_embedding = TokenEmbedding(
            c.vocab_size, c.hidden_dim, initializer(), dtype=dtype, name="token_embedding"
        )
        self.position_embedding = PositionEmbedding(
            c.max_length, c.hidden_dim, initializer(), dtype=dtype, name="position_embedding"
        )
        self.segment_embedding = SegmentEmbedding(
            c.num_segments, c.hidden_dim, initializer(), dtype=dtype, name="segment_embedding"
        )
        self.embedding_norm = LayerNorm(epsilon=c.norm_epsilon, dtype=dtype, name="embedding_norm")
        self.embedding_dropout = keras.layers.Dropout(
            c.dropout, dtype=dtype, name="embedding_dropout"
        )
        self.blocks = [
            EncoderBlock(
                c.num_heads,
                c.intermediate_dim,
                activation=c.activation,
                dropout=c.dropout,
                attention_dropout=c.attention_dropout,
                norm_epsilon=c.norm_epsilon,
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
        for layer in (self.token_embedding, self.position_embedding, self.segment_embedding):
            layer.build(tokens)
        for layer in (self.embedding_norm, *self.blocks, self.pooler):
            if layer is not None:
                layer.build(hidden)
        self.built = True

    def call(self, inputs, training=None, return_hidden_states=False):
        token_ids = inputs["token_ids"]
        padding_mask = inputs.get("padding_mask")
        segment_ids = inputs.get("segment_ids")
        if segment_ids is None:
            segment_ids = keras.ops.zeros_like(token_ids)

        x = self.token_embedding(token_ids) + self.segment_embedding(segment_ids)
        x = self.embedding_norm(x + self.position_embedding(token_ids))
        x = self.embedding_dropout(x, training=training)  # [batch, seq, hidden]
        hidden_states = [x]
        for block in self.blocks:
            x = block(x, padding_mask=padding_mask, training=training)
            hidden_states.append(x)

        outputs = {"sequence_output": x}
        if self.pooler is not None:
            outputs["pooled_output"] = self.pooler(x)
        if return_hidden_states:
            outputs["hidden_states"] = tuple(hidden_states)
        return outputs

    @classmethod
    def from_preset(cls, name, load_weights=True, dtype=None):
        """A `Bert` from a preset.

        Args:
            name: a local Hugging Face directory of `model_type` "bert"; `hf://owner/name`; a
                pretrained preset ("minilm_l6_en_uncased"); or one of the sizes in `Bert.presets`
                ("bert_tiny" … "bert_large"), which have no weights: they start at random.
            load_weights: False for random weights.
            dtype: a Keras dtype policy.

        Raises:
            FileNotFoundError: no such preset, or no weights in the directory.
            CheckpointError: the weights do not fit; every tensor concerned is listed.
        """
        if name in cls.presets and (not load_weights or name not in preset.pretrained_presets()):
            return cls(cls.presets[name], dtype=dtype)
        directory = preset.resolve(name)
        config = BertConfig.from_huggingface(preset.read_config(directory, ("bert",)))
        if not load_weights:
            return cls(config, dtype=dtype)
        config = dataclasses.replace(
            config, pooler=checkpoint.contains(directory, "pooler.dense.weight")
        )
        model = cls(config, dtype=dtype)
        checkpoint.load(model.checkpoint_table(), directory, "bert.", _OTHER_HEADS)
        return model

    def checkpoint_table(self):
        """This model's variables and their names in a Hugging Face checkpoint."""
        table = [
            checkpoint.Tensors(layer.embeddings, (f"embeddings.{name}_embeddings.weight",))
            for name, layer in (
                ("word", self.token_embedding),
                ("position", self.position_embedding),
                ("token_type", self.segment_embedding),
            )
        ]
        table += checkpoint.norm(self.embedding_norm, "embeddings.LayerNorm")
        for index, block in enumerate(self.blocks):
            layer = f"encoder.layer.{index}"
            attention, forward = block.attention, block.feed_forward
            query_key_value = [f"{layer}.attention.self.{n}" for n in ("query", "key", "value")]
            table += checkpoint.dense(attention.query_key_value_dense, *query_key_value)
            table += checkpoint.dense(attention.output_dense, f"{layer}.attention.output.dense")
            table += checkpoint.norm(block.attention_norm, f"{layer}.attention.output.LayerNorm")
            table += checkpoint.dense(forward.intermediate_dense, f"{layer}.intermediate.dense")
            table += checkpoint.dense(forward.output_dense, f"{layer}.output.dense")
            table += checkpoint.norm(block.feed_forward_norm, f"{layer}.output.LayerNorm")
        if self.pooler is not None:
            table += checkpoint.dense(self.pooler.dense, "pooler.dense")
        return table

    def get_config(self):
        return {**super().get_config(), "config": dataclasses.asdict(self.config)}

    @classmethod
    def from_config(cls, config):
        return cls(BertConfig(**config.pop("config")), **config)


# What a Bert checkpoint may hold beside the encoder: buffers of old files, and heads.
_OTHER_HEADS = ("embeddings.position_ids", "cls.", "classifier.", "qa_outputs.")


def _initializer(config):
    return lambda: keras.initializers.TruncatedNormal(stddev=config.initializer_range)
