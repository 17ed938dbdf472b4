"""Text classification: one or several labels for a text or a pair of texts."""

import dataclasses
import functools
import math

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from tqdm.auto import tqdm

from lingxi.layers import Dense, get_activation
from lingxi.tasks import text_data
from lingxi.text import WordPieceTokenizer
from lingxi.training import AdamW, WarmupLinearDecay
from lingxi.zoo import Bert, checkpoint, preset
from lingxi.zoo.huggingface.classifier import CLASSIFIERS

BATCH_SIZE = 32
LEARNING_RATE = 5e-5
SHUFFLE_BUFFER = 10_000  # examples, of a data set of single texts


@dataclasses.dataclass(frozen=True)
class Classification:
    """The answer for one text.

    Attributes:
        label: the most probable label.
        score: its probability.
        probabilities: of every label.
        labels: of a multi-label classifier, all labels with a probability of at least 0.5.
    """

    label: str
    score: float
    probabilities: dict
    labels: tuple = ()


@keras.saving.register_keras_serializable(package="lingxi")
class TextClassifier(keras.Model):
    """An encoder with a classification head, trained and called on raw text.

    As a Keras model it takes what `tokenizer` returns and gives logits `[batch, labels]`; `fit`,
    `evaluate` and `predict` also take raw texts.

    Args:
        backbone: a `lingxi.zoo.Bert`.
        tokenizer: the backbone's `lingxi.text.WordPieceTokenizer`.
        labels: label names, in the order of the logits.
        multi_label: independent labels (sigmoid) instead of exactly one (softmax).
        max_length: longest sequence in tokens; longer texts are cut. By default the shorter of
            the tokenizer's and the backbone's maximum.
        dropout: before the head; by default the backbone's.
    """

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
        super().__init__(**kwargs)
        self.labels = _checked_labels(labels)
        if tokenizer.vocab_size > backbone.config.vocab_size:
            raise ValueError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, but the backbone only "
                f"{backbone.config.vocab_size}; they do not belong together"
            )
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.multi_label = multi_label
        self.max_length = min(tokenizer.max_length, backbone.config.max_length)
        self.max_length = self.checked_max_length(max_length)
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
        self.head = Dense(
            len(self.labels), kernel_initializer=initializer, dtype="float32", name="head"
        )
        self.head.build((None, hidden_dim))
        self.built = True
        self._label_ids = {label: index for index, label in enumerate(self.labels)}
        self._compiled_by_default = True

    # The Keras model

    def call(self, inputs, training=None):
        outputs = self.backbone(inputs, training=training, num_positions=1)
        if self.hidden is None:
            x = outputs["pooled_output"]
        else:
            x = ops.take(outputs["sequence_output"], 0, axis=1)  # [batch, hidden]
            if self._layout.drops_input:
                x = self.head_dropout(x, training=training)
            x = self.hidden(x)
        return self.head(self.head_dropout(x, training=training))  # [batch, labels]

    def compile(self, optimizer=None, loss=None, metrics=None, **kwargs):
        """As in Keras; what is left out gets the default of the task.

        Defaults: `lingxi.training.AdamW` at 5e-5 with gradients clipped to norm 1 and no decay of
        biases and norms (and, when `fit` compiles, linear warm-up over a tenth of the steps, then
        linear decay); cross-entropy; accuracy.
        """
        self._compiled_by_default = False
        if loss is None:
            loss_class = (
                keras.losses.BinaryCrossentropy
                if self.multi_label
                else keras.losses.SparseCategoricalCrossentropy
            )
            loss = loss_class(from_logits=True)
        if metrics is None:
            metrics = [
                keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)
                if self.multi_label
                else keras.metrics.SparseCategoricalAccuracy(name="accuracy")
            ]
        kwargs.setdefault("jit_compile", False)  # shapes vary: XLA would compile for each
        super().compile(
            optimizer=_default_optimizer(LEARNING_RATE) if optimizer is None else optimizer,
            loss=loss,
            metrics=metrics,
            **kwargs,
        )

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
        learning_rate=LEARNING_RATE,
        **kwargs,
    ):
        """Train on raw texts.

        Args:
            x: list or array of strings; list of `(text, pair)`; a batched `tf.data.Dataset` of
                `(texts, labels)`; the name of a prepared TFDS data set ("glue/sst2": its splits
                "train" and "validation" are used); or anything that `keras.Model.fit` takes,
                already tokenized.
            y: label names or ids `[examples]`; for a multi-label classifier a list of label names
                for each text, or 0/1 `[examples, labels]`.
            validation_data: `(x, y)` of the same kinds, or a data set.
            class_weight: `{label name or id: weight}`.
            sample_weight: `[examples]`.
            seed: of the order of the examples.
            learning_rate: the peak of the default schedule; an optimizer given to `compile` has
                its own.
            epochs, batch_size, shuffle, kwargs: as in `keras.Model.fit`.
        """
        if isinstance(x, str):
            if validation_data is None:
                validation_data = text_data.load_tfds(x, "validation")
            x, y = text_data.load_tfds(x, "train")
        if class_weight is not None:
            class_weight = {self._label_id(k): weight for k, weight in class_weight.items()}
        order = "shuffled" if shuffle else "given"
        data = self._batches(x, y, batch_size, order, sample_weight, seed)
        if isinstance(validation_data, tuple) and _is_raw(validation_data[0]):
            x, y, *weight = validation_data
            validation_data = self._batches(x, y, batch_size, "sorted", *weight)["x"]
        elif isinstance(validation_data, tf.data.Dataset):
            validation_data = self._tokenized_dataset(validation_data, batch_size)
        # A data set of ours is shuffled already; Keras warns when asked to shuffle one again.
        kwargs["shuffle"] = shuffle and not isinstance(data["x"], tf.data.Dataset)
        if self._compiled_by_default:
            steps = kwargs.get("steps_per_epoch") or _steps_per_epoch(data)
            self.compile(_default_optimizer(learning_rate, steps and epochs * steps))
            self._compiled_by_default = True
            self._create_training_state()
        return super().fit(
            **data,
            validation_data=validation_data,
            epochs=epochs,
            class_weight=class_weight,
            **kwargs,
        )

    def _create_training_state(self):
        """The variables of optimizer and metrics: made in the first step, it is traced twice."""
        self.optimizer.build(self.trainable_variables)
        logits = np.zeros((1, len(self.labels)), "float32")
        targets = np.zeros_like(logits) if self.multi_label else np.zeros(1, "int32")
        self.compute_loss(y=targets, y_pred=logits)
        self.compute_metrics(None, targets, logits)
        self.reset_metrics()

    def evaluate(self, x=None, y=None, batch_size=None, sample_weight=None, **kwargs):
        """As in Keras, on anything that `fit` takes (of a TFDS name, the split "validation")."""
        if isinstance(x, str):
            x, y = text_data.load_tfds(x, "validation")
        if not self.compiled:
            self.compile()
            self._compiled_by_default = True
        data = self._batches(x, y, batch_size, "sorted", sample_weight)
        return super().evaluate(**data, **kwargs)

    def predict(self, x, batch_size=None, verbose="auto", **kwargs):
        """Logits `[examples, labels]` for texts, pairs, a data set or tokenized inputs."""
        if isinstance(x, tf.data.Dataset):
            x = self._tokenized_dataset(x, batch_size)
        if not _is_raw(x):
            return super().predict(x, batch_size=batch_size, verbose=verbose, **kwargs)
        batches = self._raw_batches(x, None, batch_size, "sorted")
        logits = np.zeros((batches.num_examples, len(self.labels)), "float32")
        for rows, outputs in self._in_batches(self._logits_graph, batches, "predict", verbose):
            logits[rows] = outputs.numpy()
        return logits

    # The verb

    def classify(self, texts, batch_size=None, verbose="auto"):
        """A `Classification` for each text or `(text, pair)`.

        Args:
            texts: list or array of strings or pairs; an empty list gives an empty list.
            batch_size: texts a step; texts are grouped by length, the answers keep their order.
            verbose: a progress bar: True, False, or "auto" (for more than 20 batches).
        """
        batches = self._raw_batches(texts, None, batch_size, "sorted")
        answers = [None] * batches.num_examples
        for rows, outputs in self._in_batches(self._answers_graph, batches, "classify", verbose):
            for row, values in zip(rows, outputs["probabilities"].numpy(), strict=True):
                answers[row] = classification(self.labels, values, self.multi_label)
        return answers

    def _in_batches(self, graph, batches, description, verbose):
        """Pairs of row numbers and what `graph` gives for them, behind a progress bar."""
        hidden = batches.num_batches <= 20 if verbose == "auto" else not verbose
        steps = tqdm(range(batches.num_batches), desc=description, unit="batch", disable=hidden)
        for step in steps:
            (inputs,) = batches[step]
            yield batches.rows[step], graph(inputs)

    @functools.cached_property
    def _answers_graph(self):
        return self._graph(self.answers)

    @functools.cached_property
    def _logits_graph(self):
        return self._graph(lambda inputs: tf.cast(self(inputs, training=False), tf.float32))

    def _graph(self, function):
        """`function` of tokenized inputs, traced once for every batch and sequence length."""
        return tf.function(function, input_signature=[self.tokenized_signature()], autograph=False)

    @staticmethod
    def tokenized_signature(batch=None, length=None):
        """What the model takes: one `tf.TensorSpec` `[batch, seq]` for each input."""
        return {
            "token_ids": tf.TensorSpec([batch, length], tf.int32, name="token_ids"),
            "segment_ids": tf.TensorSpec([batch, length], tf.int32, name="segment_ids"),
            "padding_mask": tf.TensorSpec([batch, length], tf.bool, name="padding_mask"),
        }

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

    def with_label(self, answers):
        """`answers` with `label`, string `[batch]`, in place of `label_id`."""
        label = tf.gather(tf.constant(self.labels), answers["label_id"])
        return {
            "label": label,
            "score": answers["score"],
            "probabilities": answers["probabilities"],
        }

    def serving_function(self, text, pair=None, max_length=None, padding="longest", answers=None):
        """Raw texts to final answers: the one function that every artifact runs.

        Args:
            text, pair: string tensors `[batch]`.
            max_length: in tokens, by default the task's.
            padding: of the tokenizer.
            answers: a function to run in place of `self.answers`, such as a frozen copy of it.

        Returns:
            `label` string `[batch]`, and `score` and `probabilities` as `answers` gives them.
        """
        inputs = self.tokenizer(
            text, pair, max_length=self.checked_max_length(max_length), padding=padding
        )
        return self.with_label((answers or self.answers)(inputs))

    def checked_max_length(self, max_length=None):
        """`max_length` if this model can read so many tokens; None gives the task's own."""
        longest = min(self.tokenizer.max_length, self.backbone.config.max_length)
        if max_length is None:
            return self.max_length
        if not 3 <= max_length <= longest:
            raise ValueError(
                f"max_length must be from 3 to {longest} (this model's longest), got {max_length}"
            )
        return max_length

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
            vocabulary: path of a `vocab.txt`, for a preset that has none.
            load_weights: False for random weights.
            dtype: a Keras dtype policy such as "mixed_bfloat16".

        Raises:
            ValueError: the directory has no head and no labels were given.
        """
        backbone = Bert.from_preset(name, load_weights=load_weights, dtype=dtype)
        directory = config = None
        if name not in Bert.presets or name in preset.pretrained_presets():
            directory = preset.resolve(name)
            config = preset.read_config(directory, Bert.layouts)
        if vocabulary is not None:
            tokenizer = WordPieceTokenizer(vocabulary, max_length=backbone.config.max_length)
        elif directory is not None:
            tokenizer = WordPieceTokenizer.from_directory(directory, backbone.config.max_length)
        else:
            raise ValueError(
                f"preset {name!r} is a size, without a vocabulary: pass vocabulary='…/vocab.txt', "
                f"or take a pretrained preset ({', '.join(preset.pretrained_presets())}) "
                "or a directory"
            )
        trained = config is not None and _is_classifier(config)
        own_labels = _own_labels(config) if trained else None
        if labels is None and own_labels is None:
            raise ValueError(
                f"{name!r} is not a trained classifier, so it needs labels=[…], the label names"
            )
        settings = (config or {}).get("lingxi", {})
        dropout = CLASSIFIERS[backbone.config.model_type].dropout
        if trained and config.get(dropout) is not None:
            kwargs.setdefault("dropout", config[dropout])
        if multi_label is None:
            multi_label = trained and config.get("problem_type") == "multi_label_classification"
        classifier = cls(
            backbone,
            tokenizer,
            own_labels if labels is None else labels,
            multi_label=multi_label,
            max_length=max_length or settings.get("max_length"),
            dtype=dtype,
            **kwargs,
        )
        if trained and load_weights and classifier.labels == own_labels:
            buffers = ("embeddings.position_ids",)  # of files from before transformers 4.31
            prefix = backbone.layout.prefix
            checkpoint.load(classifier.checkpoint_table(), directory, prefix, buffers)
        return classifier

    def save_preset(self, directory):
        """Write `config.json`, `model.safetensors`, `vocab.txt` and the tokenizer's settings.

        `TextClassifier.from_preset` and `transformers.AutoModelForSequenceClassification` load
        the directory. It appears only when it is complete; an older model there is replaced.
        """
        config = {
            **self.backbone.layout.to_contents(self.backbone.config),
            "architectures": [self._layout.architecture],
            "problem_type": (
                "multi_label_classification" if self.multi_label else "single_label_classification"
            ),
            self._layout.dropout: self.dropout,
            "id2label": {str(index): label for index, label in enumerate(self.labels)},
            "label2id": {label: index for index, label in enumerate(self.labels)},
            "lingxi": {"task": "TextClassifier", "max_length": self.max_length},
        }
        preset.write(directory, config, self.checkpoint_table(), self.tokenizer)

    def checkpoint_table(self):
        """Variables and their names in a `…ForSequenceClassification` checkpoint."""
        names = self._layout
        table = checkpoint.prefixed(self.backbone.checkpoint_table(), self.backbone.layout.prefix)
        if self.hidden is not None:
            table += checkpoint.dense(self.hidden, names.hidden)
        return table + checkpoint.dense(self.head, names.logits)

    def get_config(self):
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "tokenizer": self.tokenizer.get_config(),
            "labels": self.labels,
            "multi_label": self.multi_label,
            "max_length": self.max_length,
            "dropout": self.dropout,
        }

    @classmethod
    def from_config(cls, config):
        backbone = keras.saving.deserialize_keras_object(config.pop("backbone"))
        return cls(backbone, WordPieceTokenizer(**config.pop("tokenizer")), **config)

    def get_compile_config(self):
        """None after a default `compile`: its schedule belonged to one run of `fit`."""
        return None if self._compiled_by_default else super().get_compile_config()

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    # Data

    def _batches(self, x, y, batch_size, order, sample_weight=None, seed=None):
        """The arguments `x`, `y`, … of `keras.Model.fit` for anything that `fit` accepts."""
        if isinstance(x, tf.data.Dataset):
            return {"x": self._tokenized_dataset(x, batch_size or BATCH_SIZE, order == "shuffled")}
        if not _is_raw(x):
            data = {"x": x, "y": y, "batch_size": batch_size, "sample_weight": sample_weight}
            return {name: value for name, value in data.items() if value is not None}
        if y is None:
            raise ValueError("raw texts need their labels: pass y, one label for each text")
        batches = self._raw_batches(x, y, batch_size, order, sample_weight, seed)
        if not batches.num_batches:
            raise ValueError("got no texts; pass at least one text and its label")
        return {"x": batches.dataset()}

    def _raw_batches(self, x, y, batch_size, order, sample_weight=None, seed=None):
        first, second = text_data.split_pairs(x)
        inputs = self.tokenizer(first, second, max_length=self.max_length, padding=None)
        num_texts = inputs["token_ids"].shape[0]
        for name, values in (("labels", y), ("sample weights", sample_weight)):
            if values is not None and len(values) != num_texts:
                raise ValueError(
                    f"got {num_texts} texts, but {len(values)} {name}; "
                    "there must be one for each text"
                )
        return text_data.LengthBucketedBatches(
            inputs,
            None if y is None else self._targets(y),
            batch_size or BATCH_SIZE,
            self.tokenizer.pad_id,
            order,
            seed=seed,
            sample_weights=None if sample_weight is None else np.asarray(sample_weight, "float32"),
        )

    def _tokenized_dataset(self, dataset, batch_size, shuffle=False):
        """A data set of raw texts as one of token ids; one of single texts is batched."""
        spec = dataset.element_spec
        texts = spec[0] if isinstance(spec, tuple) else spec
        if isinstance(texts, dict) and "token_ids" in texts:
            return dataset
        leaf = tf.nest.flatten(texts)[0]
        if leaf.dtype != tf.string:
            raise TypeError(
                f"the data set must give texts (strings) or tokenized inputs, got {texts}"
            )
        if leaf.shape.rank == 0:
            if shuffle:
                dataset = dataset.shuffle(SHUFFLE_BUFFER)
            dataset = dataset.batch(batch_size or BATCH_SIZE)
        lookup = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(self.labels, list(range(len(self.labels)))), -1
        )

        def tokenized(texts, *rest):
            first, second = texts if isinstance(texts, tuple) else (texts, None)
            inputs = self.tokenizer(first, second, max_length=self.max_length)
            if not rest:
                return inputs
            targets, *weights = rest
            if targets.dtype == tf.string:
                targets = lookup.lookup(targets)
                known = tf.debugging.assert_non_negative(
                    targets, f"the data set has a label that is none of {self.labels}"
                )
                with tf.control_dependencies([known]):
                    targets = tf.identity(targets)
            return (inputs, targets, *weights)

        return dataset.map(tokenized, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def _targets(self, y):
        """Label ids int32 `[examples]`, or 0/1 float32 `[examples, labels]`."""
        if not self.multi_label:
            return np.array([self._label_id(label) for label in y], "int32")
        if not isinstance(y, np.ndarray) and _are_indicators(y, len(self.labels)):
            y = np.array(y)
        if isinstance(y, np.ndarray) and y.dtype.kind in "fiub":
            if y.shape[1:] != (len(self.labels),):
                raise ValueError(
                    f"0/1 labels must be [examples, {len(self.labels)}], got {y.shape}"
                )
            return y.astype("float32")
        targets = np.zeros((len(y), len(self.labels)), "float32")
        for row, names in enumerate(y):
            if isinstance(names, (str, bytes)):
                raise TypeError(
                    f"a multi-label classifier needs a list of labels for each text, "
                    f"got {names!r} for text {row}"
                )
            for name in names:
                targets[row, self._label_id(name)] = 1.0
        return targets

    def _label_id(self, label):
        if isinstance(label, bytes):
            label = label.decode()
        if isinstance(label, str) and label in self._label_ids:
            return self._label_ids[label]
        is_id = isinstance(label, (int, np.integer)) and not isinstance(label, bool)
        if is_id and 0 <= label < len(self.labels):
            return int(label)
        raise ValueError(
            f"unknown label {label!r}; this classifier has {self.labels} "
            f"(or their ids 0 to {len(self.labels) - 1})"
        )


def _default_optimizer(learning_rate, total_steps=None):
    if total_steps:
        warmup_steps = math.ceil(total_steps / 10)
        learning_rate = WarmupLinearDecay(learning_rate, warmup_steps, total_steps)
    optimizer = AdamW(learning_rate, weight_decay=0.01, global_clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def classification(labels, probabilities, multi_label):
    """The `Classification` of one row of probabilities `[labels]`."""
    best = int(np.argmax(probabilities))
    named = {label: float(p) for label, p in zip(labels, probabilities, strict=True)}
    chosen = tuple(label for label, p in named.items() if p >= 0.5) if multi_label else ()
    return Classification(labels[best], named[labels[best]], named, chosen)


def _checked_labels(labels):
    if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
        raise TypeError(f"labels must be a list of strings, got {labels!r}")
    labels = list(labels)
    if not labels or len(set(labels)) < len(labels):
        raise ValueError(f"labels must be distinct and at least one, got {labels}")
    return labels


def _is_raw(x):
    """Whether `x` is texts to tokenize, not something that Keras itself takes."""
    return not isinstance(x, (dict, tf.data.Dataset, keras.utils.PyDataset))


def _are_indicators(rows, num_labels):
    """Whether every row has a 0 or a 1 for each label, so that it cannot be a list of label ids."""
    return all(
        not isinstance(row, (str, bytes))
        and len(row) == num_labels
        and all(not isinstance(value, (str, bytes)) and value in (0, 1) for value in row)
        for row in rows
    )


def _steps_per_epoch(data):
    """Batches in the data of one epoch, or None where nobody knows."""
    if isinstance(data["x"], tf.data.Dataset):
        cardinality = int(data["x"].cardinality())
        return cardinality if cardinality > 0 else None
    if isinstance(data["x"], dict):
        return math.ceil(len(data["y"]) / data.get("batch_size", BATCH_SIZE))
    return data["x"].num_batches


def _is_classifier(config):
    names = config.get("architectures") or ()
    return any(name.endswith("ForSequenceClassification") for name in names)


def _own_labels(config):
    if "id2label" not in config:
        return ["LABEL_0", "LABEL_1"]  # what `transformers` leaves out of the file
    return [
        label for _, label in sorted((int(i), label) for i, label in config["id2label"].items())
    ]
