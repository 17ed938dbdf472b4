"""Text embeddings: one vector for a text, near to those of texts that mean the same."""

import collections.abc
import dataclasses

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from lingxi.answers import retrieval
from lingxi.data import TableStream
from lingxi.tasks import text_data
from lingxi.tasks.task import Task, check_equally_many
from lingxi.text.strings import as_strings
from lingxi.training import CosineCorrelation, CosineLoss, InBatchNegatives, RetrievalAccuracy
from lingxi.zoo import Bert, preset
from lingxi.zoo.huggingface import embedder

POOLINGS = ("mean", "cls", "max")
SIDES = ("", "pair_", "negative_")  # of an example to learn from: before the names of its inputs
SAME = 0.01  # an artifact's embedding is that of its task if their cosine is at least 0.99


@keras.saving.register_keras_serializable(package="lingxi")
class TextEmbedder(Task):
    """An encoder whose outputs are pooled to one embedding for each text.

    As a Keras model it takes what `tokenizer` returns and gives float32 `[batch, dim]`. To learn,
    it also takes `pair_token_ids` and `pair_padding_mask`, and perhaps `negative_token_ids` and
    `negative_padding_mask`: texts that belong to the first, and texts that do not. Then it gives
    `[batch, texts, dim]`.

    Args:
        backbone: a `lingxi.zoo.Bert`.
        tokenizer: the backbone's `lingxi.text.Tokenizer`.
        pooling: of the outputs of all real tokens "mean" or "max", or that of the first, "cls".
        normalize: give embeddings of length 1.
        prompt: what every text begins with.
        prompts: `{name: text}` of prompts that `embed` takes in place of `prompt`; `search` takes
            "query" for queries and "document", "passage" or "corpus" for the corpus.
        max_length: longest sequence in tokens; longer texts are cut. By default the shorter of
            the tokenizer's and the backbone's maximum.
    """

    architectures = (Bert,)
    verb = "embed"
    target = "similarity"
    takes_pairs = False

    def __init__(
        self,
        backbone,
        tokenizer,
        pooling="mean",
        normalize=True,
        prompt="",
        prompts=None,
        max_length=None,
        **kwargs,
    ):
        super().__init__(backbone, tokenizer, max_length, **kwargs)
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {POOLINGS}, got {pooling!r}")
        self.pooling = pooling
        self.normalize = normalize
        self.prompt = prompt
        self.prompts = dict(prompts or {})
        if backbone.pooler is not None:
            backbone.pooler.trainable = False  # nobody reads it
        self._scored = False  # whether the default loss is that of pairs with similarities
        self._temperature = 0.05
        self.built = True

    @property
    def dim(self):
        """Numbers of an embedding."""
        return self.backbone.config.hidden_dim

    # The Keras model

    def call(self, inputs, training=None):
        embeddings = []
        for prefix in SIDES:
            if f"{prefix}token_ids" in inputs:
                names = ("token_ids", "segment_ids", "padding_mask")
                side = {n: inputs[prefix + n] for n in names if prefix + n in inputs}
                embeddings.append(self._embeddings(side, training))
        return embeddings[0] if len(embeddings) == 1 else ops.stack(embeddings, axis=1)

    def _embeddings(self, inputs, training):
        """Of one side: `[batch, dim]`."""
        num_positions = 1 if self.pooling == "cls" else None
        outputs = self.backbone(inputs, training=training, num_positions=num_positions)
        x = ops.cast(outputs["sequence_output"], "float32")  # [batch, seq, dim]
        mask = inputs.get("padding_mask")
        if mask is None:
            mask = ops.ones_like(inputs["token_ids"], "bool")
        mask = ops.expand_dims(mask, -1)  # [batch, seq, 1]
        if self.pooling == "cls":
            x = ops.take(x, 0, axis=1)
        elif self.pooling == "max":
            x = ops.max(ops.where(mask, x, -1e9), axis=1)
        else:
            real = ops.cast(mask, "float32")
            x = ops.sum(x * real, axis=1) / ops.maximum(ops.sum(real, axis=1), 1.0)
        return ops.normalize(x, axis=-1, epsilon=1e-12) if self.normalize else x

    def default_loss(self):
        """Of pairs with similarities the error of the cosine, else in-batch negatives."""
        return CosineLoss() if self._scored else InBatchNegatives(self._temperature)

    def default_metrics(self):
        """The correlation with the similarities, or the accuracy of retrieval in the batch."""
        return [CosineCorrelation() if self._scored else RetrievalAccuracy()]

    def metrics_example(self):
        """Targets and embeddings of one pair."""
        targets = np.zeros(1, "float32") if self._scored else np.zeros((1, 2), "int32")
        return targets, np.zeros((1, 2, self.dim), "float32")

    def fit(
        self,
        x=None,
        y=None,
        validation_data=None,
        epochs=1,
        batch_size=None,
        temperature=0.05,
        **kwargs,
    ):
        """Train on pairs of raw texts that mean the same, or on pairs and how similar they are.

        Every text gets `prompt`; where a model has several prompts, write them into the texts.

        Args:
            x: list of `(text, pair)`, or of `(text, pair, negative)` with a text that does not
                belong to the first; a tuple of two or three lists; a `tf.data.Dataset` of such
                tuples, or of `((text, pair), similarity)`, single or batched; a
                `lingxi.data.TableStream` with a `pair_column`, whose `label_column` is None or of
                similarities (`label_kind="number"`); or what `keras.Model.fit` takes, already
                tokenized.
            y: similarities in [-1, 1], `[examples]`: the cosines learn to be these. Without them
                each text learns to find its pair among all of its batch, so that a larger batch
                teaches more; texts that are equal are not taken for wrong answers.
            validation_data: pairs, or `(x, y)`, or a data set, or a `TableStream`, of the same
                kind.
            batch_size: pairs a batch.
            temperature: of the default loss without `y`, `lingxi.training.InBatchNegatives`.
            sample_weight: `[examples]`.
            seed: of the order of the examples.
            learning_rate: the peak of the default schedule, 5e-5; an optimizer given to `compile`
                has its own.
            epochs, shuffle, kwargs: as in `keras.Model.fit`.
        """
        if isinstance(validation_data, (list, np.ndarray)):
            validation_data = validation_data, None
        self._scored = _is_scored(x, y)
        self._temperature = temperature
        return super().fit(x, y, validation_data, epochs, batch_size, **kwargs)

    def evaluate(self, x=None, y=None, batch_size=None, **kwargs):
        """As in Keras, on anything that `fit` takes, pairs with similarities or without.

        Unless `compile` was called with others, loss and metric are those of the kind of `x`.
        """
        if self._compiled_by_default and self._scored != _is_scored(x, y):
            self._scored = not self._scored
            self.compile()
            self._compiled_by_default = True
        return super().evaluate(x, y, batch_size, **kwargs)

    def _batches(self, x, y, batch_size, order, sample_weight=None, seed=None):
        if isinstance(x, tf.data.Dataset):
            x = _examples_of(x)
        elif text_data.is_raw(x) and y is None and not isinstance(x, TableStream):
            y = _numbers(text_columns(x))
        return super()._batches(x, y, batch_size, order, sample_weight, seed)

    def check_columns(self, table):
        if table.pair_column is None:
            raise ValueError(
                "a TextEmbedder learns from pairs of texts, but pair_column is None: name the "
                "column of the second texts in TableStream(…, pair_column=…)"
            )
        if table.label_column is not None and table.label_kind != "number":
            raise ValueError(
                f"similarities are numbers, but the labels in {table.label_column!r} are read as "
                f"{table.label_kind!r}: pass TableStream(…, label_kind='number'), or "
                "label_column=None for pairs that mean the same"
            )

    def _raw_batches(self, x, y, batch_size, order, sample_weight=None, seed=None, max_length=None):
        if y is None:
            return super()._raw_batches(x, y, batch_size, order, max_length=max_length)
        sides, targets = self.encode(x, y, max_length)
        if sample_weight is not None:
            check_equally_many(sides[0], sample_weight, "sample weight")
            sample_weight = np.asarray(sample_weight, "float32")
        return SideBatches(
            sides,
            targets,
            batch_size or text_data.BATCH_SIZE,
            self.tokenizer.pad_id,
            order,
            seed=seed,
            sample_weights=sample_weight,
        )

    def encode(self, x, y=None, max_length=None):
        """Raw texts to ragged inputs; pairs and what to learn of them to inputs of each side.

        Raises:
            ValueError: pairs to embed, or single texts to learn from.
        """
        prompt = self.prompt
        if isinstance(x, _Prompted):
            x, prompt = x.texts, x.prompt
        columns = text_columns(x)
        max_length = self.checked_max_length(max_length)
        sides = [
            self.tokenizer(_joined(prompt, column), max_length=max_length, padding=None)
            for column in columns
        ]
        if y is None:
            if len(sides) > 1:
                raise ValueError("an embedding is of one text, but got pairs; embed each side")
            return sides[0], None
        if not sides[0]["token_ids"].shape[0]:
            raise ValueError("got no texts; pass at least one pair (text, pair)")
        targets = self.targets(y)
        if len(sides) == 1 or (targets.ndim == 1 and len(sides) > 2):
            raise ValueError(
                "similarities are of pairs (text, pair); without them, pass pairs or "
                f"(text, pair, negative); got {len(sides)} texts an example"
            )
        for side in sides:
            check_equally_many(side, y, "similaritie" if targets.ndim == 1 else "first text")
        return sides, targets

    def encode_in_graph(self, texts, targets=None, *weights):
        if not isinstance(texts, tuple):
            return self._lengthened(texts)
        inputs = {
            prefix + name: values
            for prefix, side in zip(SIDES, texts, strict=False)
            for name, values in self._lengthened(side).items()
        }
        if targets is None:
            numbers = tf.unique(tf.concat(texts, axis=0)).idx
            targets = tf.transpose(tf.reshape(numbers, [len(texts), -1]))  # [batch, texts]
        return (inputs, targets, *weights)

    def _lengthened(self, texts):
        inputs = self.tokenized(texts)
        return text_data.lengthened(inputs, self.tokenizer.pad_id, self.max_length)

    def targets(self, y):
        """Similarities float32 `[examples]`; or numbers of texts int32 `[examples, texts]`."""
        y = np.asarray(y)
        if y.ndim == 2 and y.dtype.kind == "i":
            return y.astype("int32")
        if y.ndim != 1 or y.dtype.kind not in "fiu" or not (np.abs(y) <= 1.0).all():
            raise ValueError(
                "similarities must be one number in [-1, 1] for each pair (of a scale from 0 to 5, "
                f"pass y / 5), got {y!r}"
            )
        return y.astype("float32")

    # The verbs

    def embed(self, texts, prompt=None, batch_size=None, verbose="auto"):
        """Embeddings float32 `[texts, dim]`; of one str `[dim]`.

        Args:
            texts: list or array of strings, or one str.
            prompt: the name of one of `prompts`, in place of the task's prompt.
            batch_size: texts a step; texts are grouped by length, the answers keep their order.
            verbose: a progress bar: True, False, or "auto" (for more than 20 batches).
        """
        if isinstance(texts, str):
            return self.embed([texts], prompt, batch_size, verbose)[0]
        if prompt is not None:
            texts = _Prompted(texts, retrieval.prompt_named(prompt, self.prompts))
        return self.answers_to(texts, batch_size, verbose, "embed")["embedding"]

    def similarity(self, a, b):
        """Cosines float32 `[a, b]` of texts, or of embeddings; as `retrieval.similarity`."""
        return retrieval.similarity(self.embed, a, b)

    def search(self, queries, corpus, top_k=10, block=retrieval.BLOCK):
        """A list of `Hit` for each query: its nearest texts of the corpus, exactly.

        Args:
            queries: texts, or embeddings `[queries, dim]`; of one str or one embedding the answer
                is one list.
            corpus: texts, or embeddings `[texts, dim]` (embed a corpus once to search it often,
                with the prompt for it if there is one).
            top_k: hits of a query; fewer only if the corpus has fewer texts.
            block: how many queries are compared with how many texts at once: more never are.
        """
        return retrieval.search(self.embed, self.prompts, queries, corpus, top_k, block)

    # Serving

    def tokenized(self, text, pair=None, max_length=None, padding="longest"):
        if self.prompt and self.tokenizer.in_tflite:  # which cannot join strings
            return self._tokenized_apart(text, self.checked_max_length(max_length), padding)
        return super().tokenized(_joined(self.prompt, text), pair, max_length, padding)

    def _tokenized_apart(self, text, max_length, padding):
        """The tokens of `prompt`, then those of the text.

        Raises:
            ValueError: a tokenizer that does not always cut between the two.
        """
        if not (self.tokenizer.has_segments and self.prompt[-1].isspace()):
            raise ValueError(
                f"TFLite cannot put the prompt {self.prompt!r} before a text, unless the tokenizer "
                'is WordPiece and the prompt ends with a space; pass input="ids"'
            )
        with tf.init_scope():  # a constant of the graph
            prompt = self.tokenizer.tokenize([self.prompt]).flat_values.numpy()
        inputs = self.tokenizer(text, max_length=max_length - len(prompt), padding=padding)
        batch = tf.shape(text)[0] if text.shape[0] is None else text.shape[0]
        before = len(self.tokenizer.template.before)
        inserted = {"token_ids": prompt, "segment_ids": 0 * prompt, "padding_mask": prompt >= 0}
        return {
            name: tf.concat(
                [
                    values[:, :before],
                    tf.broadcast_to(inserted[name], [batch, len(prompt)]),
                    values[:, before:],
                ],
                axis=1,
            )
            for name, values in inputs.items()
        }

    def answers(self, inputs):
        """Tokenized inputs to `embedding` float32 `[batch, dim]`."""
        return {"embedding": tf.cast(self(inputs, training=False), tf.float32)}

    def export_metadata(self):
        return {
            **super().export_metadata(),
            "dim": self.dim,
            "pooling": self.pooling,
            "normalize": self.normalize,
            "prompt": self.prompt,
            "prompts": self.prompts,
        }

    def disagreement(self, expected, found):
        """By how much each embedding of an artifact is too far from that of the task, `[examples]`.

        Of length 1 it is `1 − cosine`, beyond the tolerance `SAME`; of any other,
        `|found − expected|² / (2 |expected|²)`, which is the same and sees the length too.
        """
        expected, found = expected["embedding"], found["embedding"]
        distance = np.square(found - expected).sum(-1)
        length = np.maximum(np.square(expected).sum(-1), 1e-12)
        return np.maximum(distance / (2.0 * length) - SAME, 0.0)

    # Presets

    @classmethod
    def from_preset(
        cls,
        name,
        pooling=None,
        normalize=None,
        prompt=None,
        prompts=None,
        max_length=None,
        vocabulary=None,
        load_weights=True,
        dtype=None,
        **kwargs,
    ):
        """A pretrained embedder, or one on top of any pretrained encoder.

        Args:
            name: as in `lingxi.zoo.Bert.from_preset`; or a directory that `save_preset` or
                `sentence_transformers` wrote.
            pooling, normalize: by default what the directory says, else "mean" and True.
            prompt, prompts: by default what the directory says, else none.
            max_length: by default what the directory says, else the model's longest.
            vocabulary: path of a `vocab.txt`, a directory with the files of a tokenizer, or a
                `lingxi.text.Tokenizer`, for a preset that has none.
            load_weights: False for random weights.
            dtype: a Keras dtype policy such as "mixed_bfloat16".

        Raises:
            ValueError: the directory has a module or a pooling that lingxi does not know.
        """
        saved = None
        if name not in Bert.presets or name in preset.pretrained_presets():
            saved = embedder.read(preset.resolve(name))
            name = saved.encoder
        parts = cls.load_parts(str(name), vocabulary, load_weights, dtype)
        backbone, tokenizer, directory, _ = parts
        saved = saved or embedder.Embedding(directory)
        if max_length is None and saved.max_length is not None:
            max_length = min(saved.max_length, backbone.config.max_length, tokenizer.max_length)
        return cls(
            backbone,
            tokenizer,
            pooling=saved.pooling if pooling is None else pooling,
            normalize=saved.normalize if normalize is None else normalize,
            prompt=saved.prompts.get(saved.default_prompt, "") if prompt is None else prompt,
            prompts=saved.prompts if prompts is None else prompts,
            max_length=max_length,
            dtype=dtype,
            **kwargs,
        )

    def save_preset(self, directory):
        """Write the files of `Task.save_preset` and those of `sentence_transformers`.

        `sentence_transformers.SentenceTransformer(directory)` gives the same embeddings.
        """
        prompts, default = self.prompts, None
        if self.prompt:
            names = [name for name, text in prompts.items() if text == self.prompt]
            default = names[0] if names else "default"
            prompts = prompts | {default: self.prompt}
        others = embedder.contents(
            self.dim, self.pooling, self.normalize, self.max_length, prompts, default
        )
        table = self.checkpoint_table()
        preset.write(directory, self.preset_config(), table, self.tokenizer, others)

    def checkpoint_table(self):
        """Variables and their names in the checkpoint of a bare encoder."""
        return self.backbone.checkpoint_table()

    def get_config(self):
        return {
            **super().get_config(),
            "pooling": self.pooling,
            "normalize": self.normalize,
            "prompt": self.prompt,
            "prompts": self.prompts,
        }


class SideBatches(text_data.LengthBucketedBatches):
    """Batches of examples of two or three texts, bucketed by the longest of each example.

    Each side is padded only to its own longest text; its names have the prefix of `SIDES`.

    Args:
        sides: as `inputs` of `LengthBucketedBatches`, one for each text of an example.
        targets, batch_size, pad_id, order, kwargs: as there.
    """

    def __init__(self, sides, targets, batch_size, pad_id, order, **kwargs):
        self.sides = {
            prefix: text_data.LengthBucketedBatches(inputs, None, batch_size, pad_id, "given")
            for prefix, inputs in zip(SIDES, sides, strict=False)
        }
        longest = np.max([np.diff(side.splits) for side in self.sides.values()], axis=0)
        measure = tf.RaggedTensor.from_row_lengths(np.zeros(longest.sum(), "int32"), longest)
        super().__init__({"token_ids": measure}, targets, batch_size, pad_id, order, **kwargs)

    def _signature(self):
        return self._prefixed(lambda side: side._signature()), *super()._signature()[1:]

    def __getitem__(self, index):
        for side in self.sides.values():
            side.rows = self.rows
        rows = self.rows[index]
        extras = (
            values[rows] for values in (self.targets, self.sample_weights) if values is not None
        )
        return self._prefixed(lambda side: side[index]), *extras

    def _prefixed(self, inputs_of):
        return {
            prefix + name: values
            for prefix, side in self.sides.items()
            for name, values in inputs_of(side)[0].items()
        }


@dataclasses.dataclass(frozen=True)
class _Prompted:
    """Texts with another prompt than the task's."""

    texts: collections.abc.Iterable
    prompt: str


def text_columns(x):
    """`(texts,)`, `(texts, pairs)` or `(texts, pairs, negatives)`.

    Accepted: an iterable of strings; a list of tuples of two or three strings; an array of strings
    `[examples, 2 or 3]`; a tuple of two or three columns.
    """
    if isinstance(x, tuple) and len(x) in (2, 3) and not isinstance(x[0], (str, bytes)):
        return x
    if isinstance(x, np.ndarray) and x.ndim == 2:
        return tuple(x.T)
    if not (isinstance(x, collections.abc.Sequence) and len(x) and _is_group(x[0])):
        return (x,)
    for index, item in enumerate(x):
        if not _is_group(item) or len(item) != len(x[0]):
            raise TypeError(
                f"item 0 has {len(x[0])} texts, but item {index} is {item!r}; give only pairs "
                "(text, pair), only (text, pair, negative), or only single texts"
            )
    return tuple(zip(*x, strict=True))


def _is_group(item):
    return isinstance(item, (tuple, list)) and len(item) in (2, 3)


def _numbers(columns):
    """Equal numbers for equal texts: int32 `[examples, columns]`."""
    numbers = {}
    columns = [as_strings(column, "texts").numpy().tolist() for column in columns]
    if len({len(column) for column in columns}) > 1:
        raise ValueError(
            f"each text needs its pair, got {' and '.join(str(len(c)) for c in columns)} texts"
        )
    return np.array(
        [[numbers.setdefault(text, len(numbers)) for text in column] for column in columns], "int32"
    ).T


def _is_scored(x, y):
    """Whether there are similarities to learn."""
    if isinstance(x, TableStream):
        return x.table.label_column is not None
    if isinstance(x, tf.data.Dataset):
        spec = x.element_spec
        if not isinstance(spec, tuple) or len(spec) < 2:
            return False
        dtype = getattr(spec[1], "dtype", None)
        return dtype is not None and dtype.is_floating
    return y is not None and np.ndim(y) == 1


def _examples_of(dataset):
    """A data set of pairs of strings as one of inputs that are pairs, without targets."""
    spec = dataset.element_spec
    if isinstance(spec, tuple) and all(getattr(s, "dtype", None) == tf.string for s in spec):
        return dataset.map(lambda *texts: (texts,))
    return dataset


def _joined(prompt, texts):
    """String `[batch]` with a prompt before each."""
    texts = as_strings(texts, "texts")
    return tf.strings.join([prompt, texts]) if prompt else texts
