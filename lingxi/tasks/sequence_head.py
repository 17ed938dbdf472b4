"""An encoder with a head on its first token: what tasks on whole texts share."""

import keras
from keras import ops

from lingxi.layers import Dense, get_activation
from lingxi.tasks.task import Task
from lingxi.zoo import Bert, checkpoint
from lingxi.zoo.huggingface.classifier import CLASSIFIERS


class SequenceHead(Task):
    """The first token's output, a hidden layer, and a few numbers `[batch, outputs]`.

    Args:
        backbone: a `lingxi.zoo.Bert`.
        tokenizer: the backbone's `lingxi.text.Tokenizer`.
        num_outputs: numbers for a text.
        max_length: longest sequence in tokens; longer texts are cut. By default the shorter of
            the tokenizer's and the backbone's maximum.
        dropout: before the head; by default the backbone's.
    """

    architectures = (Bert,)

    def __init__(self, backbone, tokenizer, num_outputs, max_length=None, dropout=None, **kwargs):
        super().__init__(backbone, tokenizer, max_length, **kwargs)
        self.dropout = backbone.config.dropout if dropout is None else dropout
        hidden_dim = backbone.config.hidden_dim
        initializer = keras.initializers.TruncatedNormal(stddev=backbone.config.initializer_range)
        self._layout = CLASSIFIERS[backbone.config.model_type]
        self.hidden = None
        if backbone.pooler is None or not self._layout.uses_pooler:
            self.hidden = Dense(
                hidden_dim,
                activation=get_activation(self._layout.activation),
                kernel_initializer=initializer.clone(),
                name="hidden",
            )
            self.hidden.build((None, hidden_dim))
            if backbone.pooler is not None:
                backbone.pooler.trainable = False  # nobody reads it
        self.head_dropout = keras.layers.Dropout(self.dropout, name="head_dropout")
        self.head = Dense(num_outputs, kernel_initializer=initializer, dtype="float32", name="head")
        self.head.build((None, hidden_dim))
        self.built = True

    def call(self, inputs, training=None):
        outputs = self.backbone(inputs, training=training, num_positions=1)
        if self.hidden is None:
            x = outputs["pooled_output"]
        else:
            x = ops.take(outputs["sequence_output"], 0, axis=1)  # [batch, hidden]
            if self._layout.drops_input:
                x = self.head_dropout(x, training=training)
            x = self.hidden(x)
        return self.head(self.head_dropout(x, training=training))  # [batch, outputs]

    # Presets

    @staticmethod
    def is_trained(config):
        """Whether a config.json (or None) is that of a `…ForSequenceClassification`."""
        architectures = (config or {}).get("architectures") or ()
        return any(name.endswith("ForSequenceClassification") for name in architectures)

    @staticmethod
    def settings_in(config, backbone):
        """The arguments that a config.json (or None) tells: `max_length`, `dropout` of the head."""
        config = config or {}
        settings = {"max_length": config.get("lingxi", {}).get("max_length")}
        if SequenceHead.is_trained(config):
            settings["dropout"] = config.get(CLASSIFIERS[backbone.config.model_type].dropout)
        return settings

    def load_head(self, directory):
        """All weights of a `…ForSequenceClassification` in a directory of Hugging Face."""
        buffers = ("embeddings.position_ids",)  # of files from before transformers 4.31
        prefix = self.backbone.layout.prefix
        checkpoint.load(self.checkpoint_table(), directory, prefix, buffers)

    def preset_config(self):
        return {
            **super().preset_config(),
            "architectures": [self._layout.architecture],
            self._layout.dropout: self.dropout,
        }

    def checkpoint_table(self):
        """Variables and their names in a `…ForSequenceClassification` checkpoint."""
        names = self._layout
        table = checkpoint.prefixed(self.backbone.checkpoint_table(), self.backbone.layout.prefix)
        if self.hidden is not None:
            table += checkpoint.dense(self.hidden, names.hidden)
        return table + checkpoint.dense(self.head, names.logits)

    def get_config(self):
        return {**super().get_config(), "dropout": self.dropout}
