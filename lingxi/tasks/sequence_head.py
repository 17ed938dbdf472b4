"""An encoder with a head on its first token: what tasks on whole texts share."""

import keras
import tensorflow as tf
from keras import ops

from lingxi.data import TableStream
from lingxi.layers import Dense, get_activation
from lingxi.tasks import text_data
from lingxi.tasks.head_task import HeadTask
from lingxi.tasks.text_batches import TextBatches, augmented_dataset, checked_augmentation
from lingxi.training import run_seed
from lingxi.zoo import Bert, checkpoint
from lingxi.zoo.huggingface.classifier import CLASSIFIERS

HEAD = "ForSequenceClassification"  # of `transformers`


class SequenceHead(HeadTask):
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

    def features(self, inputs, training=None):
        """What the head reads of tokenized inputs, `[batch, hidden]`."""
        outputs = self.backbone(inputs, training=training, num_positions=1)
        if self.hidden is None:
            return outputs["pooled_output"]
        return ops.take(outputs["sequence_output"], 0, axis=1)

    def outputs(self, features, training=None):
        """What the head makes of features: `[batch, outputs]`."""
        x = features
        if self.hidden is not None:
            if self._layout.drops_input:
                x = self.head_dropout(x, training=training)
            x = self.hidden(x)
        return self.head(self.head_dropout(x, training=training))

    def fit(
        self,
        x=None,
        y=None,
        validation_data=None,
        epochs=1,
        batch_size=None,
        class_weight=None,
        sample_weight=None,
        shuffle=True,
        seed=None,
        augmentation=None,
        resume=None,
        **kwargs,
    ):
        """Train on raw texts, or tokenized inputs, or a `lingxi.data.TableStream`.

        Args:
            augmentation: a `lingxi.text.Augmentation`, or a list of them: what the training texts
                go through in every epoch, never those to validate on.
            x, y, …: see the task.

        Raises:
            TypeError: texts to augment are none, or tokenized already.
        """
        if augmentation is not None:
            seed = run_seed(resume, seed)
            options = {"batch_size": batch_size, "seed": seed}
            x = self._augmented(x, y, sample_weight, augmentation, shuffle, options)
            y = sample_weight = None
        return super().fit(
            x,
            y,
            validation_data,
            epochs,
            batch_size,
            class_weight,
            sample_weight,
            shuffle,
            seed,
            resume=resume,
            **kwargs,
        )

    def _augmented(self, x, y, sample_weight, augmentation, shuffle, options):
        """A data set of the texts in `x`, changed anew in every epoch."""
        augmentation = checked_augmentation(augmentation)
        if isinstance(x, tf.data.Dataset):
            return augmented_dataset(x, augmentation, shuffle=shuffle, **options)
        options |= {"augmentation": augmentation, "order": "shuffled" if shuffle else "given"}
        if isinstance(x, TableStream):
            return self.stream_batches(x, y, sample_weight, **options).dataset()
        if not text_data.is_raw(x):
            raise TypeError(f"augmentation changes raw texts, but x is {type(x)}: pass the texts")
        if y is None:
            raise ValueError(f"raw texts need their {self.target}s: pass y")
        return TextBatches.of_texts(self, x, y, sample_weight, **options).dataset()

    # Presets

    @classmethod
    def settings_in(cls, config, backbone, max_length=None):
        """`max_length`, if None that of a config.json (or None), and the `dropout` of its head."""
        config = config or {}
        if max_length is None:
            max_length = config.get("lingxi", {}).get("max_length")
        if not cls.is_trained(config, HEAD):
            return {"max_length": max_length}
        dropout = config.get(CLASSIFIERS[backbone.config.model_type].dropout)
        return {"max_length": max_length, "dropout": dropout}

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
