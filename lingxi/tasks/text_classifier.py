"""Text classification: one or several labels for a text or a pair of texts."""

import collections

import keras
import numpy as np
import tensorflow as tf

from lingxi.answers.classification import Classification, classifications  # noqa: F401
from lingxi.data import TableStream
from lingxi.tasks import text_data
from lingxi.tasks.labels import Labels
from lingxi.tasks.sequence_head import HEAD, SequenceHead
from lingxi.training import KlDivergence, best_temperature, yes_or_no

CONSISTENT = 1e-4  # of an artifact's label and score with its own probabilities


@keras.saving.register_keras_serializable(package="lingxi")
class TextClassifier(SequenceHead):
    """An encoder with a classification head, trained and called on raw text.

    As a Keras model it takes what `tokenizer` returns and gives logits `[batch, labels]`; `fit`,
    `evaluate` and `predict` also take raw texts.

    Args:
        backbone: a `lingxi.zoo.Bert`.
        tokenizer: the backbone's `lingxi.text.Tokenizer`.
        labels: label names, in the order of the logits.
        multi_label: independent labels (sigmoid) instead of exactly one (softmax).
        max_length, dropout: as of `SequenceHead`.
    """

    verb = "classify"

    def __init__(
        self,
        backbone,
        tokenizer,
        labels,
        multi_label=False,
        max_length=None,
        dropout=None,
        **kwargs,
    ):
        self._labels = Labels(labels)
        self.multi_label = multi_label
        super().__init__(backbone, tokenizer, len(self._labels), max_length, dropout, **kwargs)

    @property
    def labels(self):
        """Label names, in the order of the logits."""
        return self._labels.names

    # Training

    def default_loss(self):
        """Cross-entropy."""
        if self.multi_label:
            return keras.losses.BinaryCrossentropy(from_logits=True)
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def default_metrics(self):
        """Accuracy."""
        if self.multi_label:
            return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)]
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def metrics_example(self):
        """Targets and logits of one example."""
        logits = np.zeros((1, len(self.labels)), "float32")
        return np.zeros_like(logits) if self.multi_label else np.zeros(1, "int32"), logits

    def divergence(self, x, y, outputs, others, sample_weight=None):
        if self.multi_label:
            outputs, others = yes_or_no(outputs), yes_or_no(others)  # [batch, labels, 2]
        return KlDivergence()(outputs, others, sample_weight)

    def fit(
        self,
        x=None,
        y=None,
        validation_data=None,
        epochs=1,
        batch_size=None,
        class_weight=None,
        **kwargs,
    ):
        """Train on raw texts.

        Args:
            x: list or array of strings; list of `(text, pair)`; a batched `tf.data.Dataset` of
                `(texts, labels)`; a `lingxi.data.TableStream`; the name of a prepared TFDS data
                set ("glue/sst2": its splits "train" and "validation" are used); or anything that
                `keras.Model.fit` takes, already tokenized.
            y: label names or ids `[examples]`; for a multi-label classifier a list of label names
                for each text, or 0/1 `[examples, labels]`.
            validation_data: `(x, y)` of the same kinds, a data set or a `TableStream`.
            class_weight: `{label name or id: weight}`, or "balanced": all labels that occur count
                alike, `n / (k nₗ)` for each of the `nₗ` of `n` texts with one of `k` labels (King
                and Zeng 2001).
            sample_weight: `[examples]`.
            seed: of the order of the examples.
            learning_rate: the peak of the default schedule, 5e-5; an optimizer given to `compile`
                has its own.
            augmentation: a `lingxi.text.Augmentation`, or a list of them, of the training texts.
            epochs, batch_size, shuffle, kwargs: as in `keras.Model.fit`.
        """
        if isinstance(x, str):
            if validation_data is None:
                validation_data = text_data.load_tfds(x, "validation")
            x, y = text_data.load_tfds(x, "train")
        if isinstance(class_weight, str):
            class_weight = self._class_weights(class_weight, x, y)
        elif class_weight is not None:
            class_weight = {self._labels.id(k): weight for k, weight in class_weight.items()}
        return super().fit(x, y, validation_data, epochs, batch_size, class_weight, **kwargs)

    def _class_weights(self, name, x, y):
        """The weights of label ids that a name stands for: "balanced"."""
        if name != "balanced" or self.multi_label:
            raise ValueError(
                'class_weight is {label: weight}, or "balanced" for a classifier with one label a '
                f"text, got {name!r}{' of several labels' * self.multi_label}"
            )
        if isinstance(x, TableStream):
            counts = {self._labels.id(name): count for name, count in x.label_counts.items()}
        elif y is not None:
            counts = collections.Counter(self.targets(y).tolist())
        else:
            raise ValueError(
                'class_weight="balanced" counts labels before training, and cannot in a data set: '
                "pass y, a lingxi.data.TableStream or {label: weight}"
            )
        total = sum(counts.values())
        weights = {label: total / (len(counts) * count) for label, count in counts.items()}
        return {label: weights.get(label, 1.0) for label in range(len(self.labels))}

    def evaluate(self, x=None, y=None, batch_size=None, **kwargs):
        """As in Keras, on anything that `fit` takes (of a TFDS name, the split "validation")."""
        if isinstance(x, str):
            x, y = text_data.load_tfds(x, "validation")
        return super().evaluate(x, y, batch_size, **kwargs)

    def targets(self, y):
        """Label ids int32 `[examples]`, or 0/1 float32 `[examples, labels]`."""
        return self._labels.indicators(y) if self.multi_label else self._labels.ids(y)

    def targets_in_graph(self, y):
        """Label names, ids or indicators, as a data set has them."""
        return self._labels.ids_in_graph(y) if y.dtype == tf.string else y

    def with_labels(self, labels):
        """A classifier that knows these labels too, and says what this one says of its own.

        It has the same backbone, not a copy, and a head whose old rows are those of this one.
        Train it on examples of all labels: on the new ones alone it would forget the old ones.
        """
        more = type(self)(
            self.backbone,
            self.tokenizer,
            [*self.labels, *Labels(labels).names],
            self.multi_label,
            self.max_length,
            self.dropout,
        )
        if self.hidden is not None:
            more.hidden.set_weights(self.hidden.get_weights())
        kernel, bias = more.head.get_weights()
        kernel[:, : len(self.labels)], bias[: len(self.labels)] = self.head.get_weights()
        more.head.set_weights([kernel, bias])
        return more

    def calibrate(self, x, y, batch_size=None):
        """Have probabilities be as high as the classifier is often right; labels stay.

        The logits are divided by the temperature that suits these examples best (Guo et al. 2017,
        section 4.2), within the weights of the head, so that every artifact has it.

        Args:
            x, y: raw texts and labels that it was not trained on, as of `fit`.

        Returns:
            The temperature: more than 1 where it was too sure.

        Raises:
            ValueError: the head has LoRA weights (`lingxi.training.merge_lora` first).
        """
        if self.head.lora_enabled:
            raise ValueError("the head has LoRA weights: call lingxi.training.merge_lora first")
        logits = self._run(self._logits_graph, x, batch_size, False, "calibrate")
        temperature = best_temperature(logits, self.targets(y))
        self.head.set_weights([weight / temperature for weight in self.head.get_weights()])
        return temperature

    # The verb

    def classify(self, texts, batch_size=None, verbose="auto"):
        """A `Classification` for each text or `(text, pair)`.

        Args:
            texts: list or array of strings or pairs; an empty list gives an empty list.
            batch_size: texts a step; texts are grouped by length, the answers keep their order.
            verbose: a progress bar: True, False, or "auto" (for more than 20 batches).
        """
        answers = self.answers_to(texts, batch_size, verbose, "classify")
        return classifications(answers["probabilities"], self.labels, self.multi_label)

    # Serving

    def answers(self, inputs):
        """Tokenized inputs to final answers, in TensorFlow's graph.

        Returns:
            `label_id` int32 `[batch]`, `score` float32 `[batch]`, `probabilities` float32
            `[batch, labels]`.
        """
        logits = tf.cast(self(inputs, training=False), tf.float32)
        probabilities = tf.sigmoid(logits) if self.multi_label else tf.nn.softmax(logits)
        return {
            "label_id": tf.argmax(probabilities, axis=-1, output_type=tf.int32),
            "score": tf.reduce_max(probabilities, axis=-1),
            "probabilities": probabilities,
        }

    def readable(self, answers):
        """`answers` with `label`, string `[batch]`, in place of `label_id`."""
        label = tf.gather(tf.constant(self.labels), answers["label_id"])
        return {
            "label": label,
            "score": answers["score"],
            "probabilities": answers["probabilities"],
        }

    def export_metadata(self):
        return {
            **super().export_metadata(),
            "labels": self.labels,
            "multi_label": self.multi_label,
        }

    def disagreement(self, expected, found):
        """By how much of a probability each answer of an artifact is wrong, `[examples]`.

        0 where it gives the label of the task (of a multi-label task, all labels of 0.5 and more);
        1 where its label or score is not that of its own probabilities.
        """
        wanted, got = expected["probabilities"], found["probabilities"]
        if "label" in found:
            named = np.array([name.encode() for name in self.labels], object)
            is_label = found["label"][:, np.newaxis] == named  # [examples, labels]
        else:
            label_id = found["label_id"] if "label_id" in found else got.argmax(axis=-1)
            is_label = label_id[:, np.newaxis] == np.arange(len(self.labels))
        if self.multi_label:
            differs = (wanted >= 0.5) != (got >= 0.5)
            error = np.where(differs, np.abs(wanted - 0.5), 0.0).max(axis=-1)
        else:
            error = wanted.max(axis=-1) - np.where(is_label, wanted, 0.0).sum(axis=-1)
        best, of_label = got.max(axis=-1), np.where(is_label, got, 0.0).sum(axis=-1)
        said = found.get("score", best)
        consistent = np.abs([best - of_label, best - said]).max(axis=0) < CONSISTENT
        return np.where(consistent, error, 1.0)

    # Presets

    @classmethod
    def from_preset(
        cls,
        name,
        labels=None,
        multi_label=None,
        max_length=None,
        vocabulary=None,
        load_weights=True,
        dtype=None,
        **kwargs,
    ):
        """A classifier from a pretrained encoder, or a trained classifier.

        Args:
            name: as in `lingxi.zoo.Bert.from_preset`; or a directory that `save_preset` wrote, or
                that of a `…ForSequenceClassification` of Hugging Face.
            labels: label names. Not needed for a trained classifier; if given and different from
                its own, the head starts anew.
            multi_label: by default what the directory says, else False.
            max_length: by default what the directory says, else the model's longest.
            vocabulary: path of a `vocab.txt`, a directory with the files of a tokenizer, or a
                `lingxi.text.Tokenizer`, for a preset that has none.
            load_weights: False for random weights.
            dtype: a Keras dtype policy such as "mixed_bfloat16".

        Raises:
            ValueError: the directory has no head and no labels were given.
        """
        parts = cls.load_parts(name, vocabulary, load_weights, dtype)
        backbone, tokenizer, directory, config = parts
        config = config or {}
        trained = cls.is_trained(config, HEAD)
        own_labels = Labels.names_in(config) if trained else None
        if labels is None and own_labels is None:
            raise ValueError(
                f"{name!r} is not a trained classifier, so it needs labels=[…], the label names"
            )
        if multi_label is None:
            multi_label = trained and config.get("problem_type") == "multi_label_classification"
        settings = {**cls.settings_in(config, backbone, max_length), **kwargs}
        classifier = cls(
            backbone,
            tokenizer,
            own_labels if labels is None else labels,
            multi_label=multi_label,
            dtype=dtype,
            **settings,
        )
        if trained and load_weights and classifier.labels == own_labels:
            classifier.load_head(directory)
        return classifier

    def preset_config(self):
        return {
            **super().preset_config(),
            "problem_type": (
                "multi_label_classification" if self.multi_label else "single_label_classification"
            ),
            **self._labels.to_config(),
        }

    def get_config(self):
        return {**super().get_config(), "labels": self.labels, "multi_label": self.multi_label}
