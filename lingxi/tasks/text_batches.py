"""Batches of texts that are tokenized when their turn comes.

So a text can be augmented anew in every epoch, and a table need not fit in memory.
"""

import itertools
import math

import keras
import numpy as np
import tensorflow as tf

from lingxi.answers.batches import BATCH_SIZE, split_pairs
from lingxi.python_functions import from_generator
from lingxi.tasks.text_data import SORT_WINDOW, checksum, ready, tokenized_dataset
from lingxi.text.augmentation import Augmentation, Chain
from lingxi.text.checked import as_bytes

THREADS = 2  # that tokenize


class TextBatches:
    """Batches of a task, a `lingxi.tasks.text_data.Source`, of examples that come one by one.

    Examples of `SORT_WINDOW` batches are sorted by length and cut into batches; where the order is
    "shuffled", these are shuffled again. A pass depends on the seed and its number alone.

    Args:
        task: a `lingxi.tasks.Task`.
        examples: a function of None, for the given order, or of a seed, for a shuffled one, to
            an iterator of `(number, texts)`, `(number, texts, target)` or `(number, texts, target,
            weight)`, where the number is the place in the given order, and `texts` is a tuple of
            one text, or of two.
        num_examples: that it gives.
        targets: a function of a list of targets to their array; None if there are none.
        describe: what must be the same for the same examples, as a dict for JSON.
        batch_size, order, seed: as of `lingxi.tasks.text_data.LengthBucketedBatches`.
        augmentation: an `Augmentation` or None.
    """

    def __init__(
        self,
        task,
        examples,
        num_examples,
        targets,
        describe,
        batch_size=None,
        order="shuffled",
        seed=None,
        augmentation=None,
    ):
        self.task = task
        self.examples = examples
        self.targets = targets
        self.batch_size = batch_size or BATCH_SIZE
        self.order = order
        self.seed = int(np.random.randint(2**31)) if seed is None else seed
        self.augmentation = augmentation
        self.num_batches = self._count_batches(num_examples)
        self._describe = describe

    @classmethod
    def of_texts(cls, task, x, y, sample_weight=None, **options):
        """Of texts and labels in memory, in any form that `fit` takes but a data set.

        Raises:
            ValueError: there is not one label, or weight, for each text.
        """
        texts = [as_bytes(part, "x") for part in split_pairs(x) if part is not None]
        columns = [task.targets(y)]
        if sample_weight is not None:
            columns.append(np.asarray(sample_weight, "float32"))
        count = len(texts[0])
        for name, values in zip((task.target, "sample weight"), columns, strict=False):
            if len(values) != count:
                raise ValueError(
                    f"got {count} texts, but {len(values)} {name}s; there must be one for each text"
                )
        if not count:
            raise ValueError(f"got no texts; pass at least one text and its {task.target}")

        def examples(seed):
            order = range(count) if seed is None else np.random.default_rng(seed).permutation(count)
            for row in order:
                yield row, tuple(part[row] for part in texts), *(column[row] for column in columns)

        describe = {"examples": count, "sha256": checksum([texts, columns])}
        return cls(task, examples, count, np.stack, describe, **options)

    @classmethod
    def of_stream(cls, task, stream, **options):
        """Of a `lingxi.data.TableStream`, whose labels, if it has any, are the targets."""
        has_labels = stream.table.label_column is not None

        def examples(seed):
            for number, row in stream.numbered(seed):
                texts = (row.text,) if isinstance(row.text, str) else row.text
                target = (row.label,) if has_labels else ()
                yield number, tuple(text.encode() for text in texts), *target

        targets = task.targets if has_labels else None
        return cls(task, examples, len(stream), targets, stream.describe(), **options)

    def dataset(self):
        """A `tf.data.Dataset` of the batches; another pass each time it runs."""
        numbers = itertools.count()
        cardinality = tf.data.experimental.assert_cardinality(self.num_batches)
        dataset = self._tokenized(lambda: self._pass(next(numbers)), cardinality)
        dataset.source = self
        return dataset

    def stream(self, first=0):
        """The batches of `dataset().repeat()` without so many first ones."""
        number, start = divmod(first, self.num_batches)

        def batches():
            yield from itertools.islice(self._pass(number), start, None)
            for later in itertools.count(number + 1):
                yield from self._pass(later)

        return self._tokenized(batches)

    def describe(self):
        """What must be the same for the same batches in the same order, as a dict for JSON."""
        augmentation = self.augmentation
        if augmentation is not None:
            augmentation = checksum(keras.saving.serialize_keras_object(augmentation))
        settings = {**self._size(), "order": self.order, "augmentation": augmentation}
        return {**self._describe, **settings}

    def _count_batches(self, num_examples):
        """Of a pass."""
        return math.ceil(num_examples / self.batch_size)

    def _size(self):
        """How large a batch is, as a dict for JSON."""
        return {"batch_size": self.batch_size}

    def _pass(self, number):
        """The batches of a pass: texts, targets, weights if there are any, and a seed for each."""
        seed = [self.seed, number]
        random = np.random.default_rng(seed)
        examples = self.examples(seed if self.order == "shuffled" else None)
        for batch in self._cut(examples, random):
            _, texts, *columns = zip(*batch, strict=True)
            texts = tuple(np.array(part, object) for part in zip(*texts, strict=True))
            targets = [self.targets(column) for column in columns[:1]]
            weights = [np.array(column, "float32") for column in columns[1:]]
            draw = random.integers(2**31, size=2, dtype="int32")
            yield texts, *targets, *weights, draw

    def _cut(self, examples, random):
        """The examples of each batch, in lists."""
        while window := list(itertools.islice(examples, SORT_WINDOW * self.batch_size)):
            if self.order != "given":
                window.sort(key=_length)
            starts = np.arange(0, len(window), self.batch_size)
            if self.order == "shuffled":
                random.shuffle(starts)
            for start in starts:
                yield window[start : start + self.batch_size]

    def _signature(self):
        """Of what `_pass` gives."""
        texts, *_, _ = example = next(self._pass(0))
        specs = [tf.TensorSpec([None, *x.shape[1:]], x.dtype) for x in example[1:-1]]
        strings = tuple(tf.TensorSpec([None], tf.string) for _ in texts)
        return strings, *specs, tf.TensorSpec([2], tf.int32)

    def _tokenized(self, batches, cardinality=lambda dataset: dataset):
        def encode(texts, *rest):
            *columns, seed = rest
            if self.augmentation is not None:
                texts = augmented(texts, self.augmentation, seed)
            texts = texts if len(texts) == 2 else texts[0]
            return self.task.encode_in_graph(texts, *columns)

        dataset = from_generator(batches, self._signature())
        return ready(dataset.apply(cardinality).map(encode, THREADS))


def augmented(texts, augmentation, seed):
    """A tuple of string tensors, each changed by other random numbers."""
    seeds = tf.unstack(tf.random.split(seed, len(texts)))
    return tuple(augmentation(part, s) for part, s in zip(texts, seeds, strict=True))


def augmented_dataset(dataset, augmentation, batch_size, shuffle, seed):
    """A data set of raw texts as one of batches of changed ones, others in each epoch.

    Raises:
        TypeError: it does not give texts and targets.
    """
    dataset = tokenized_dataset(dataset, lambda *parts: parts, batch_size, shuffle, seed)
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) < 2 or isinstance(spec[0], dict):
        raise TypeError(f"augmentation changes texts, but the data set gives {spec}")
    seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True).batch(2)

    def change(parts, seed):
        texts, *rest = parts
        if isinstance(texts, tuple):
            return (augmented(texts, augmentation, seed), *rest)
        return (*augmented((texts,), augmentation, seed), *rest)

    return tf.data.Dataset.zip((dataset, seeds)).map(change, tf.data.AUTOTUNE)


def checked_augmentation(augmentation):
    """An `Augmentation`, or a list of them, as one.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(augmentation, Augmentation):
        return augmentation
    return Chain(augmentation if isinstance(augmentation, (list, tuple)) else [augmentation])


def _length(example):
    return sum(map(len, example[1]))
