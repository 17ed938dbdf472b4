"""Raw texts and labels, in every form that `fit` accepts, to batches of token ids."""

import collections.abc
import copy
import dataclasses
import hashlib
import math

import keras
import numpy as np
import tensorflow as tf

from lingxi.answers.batches import BATCH_SIZE
from lingxi.python_functions import from_generator
from lingxi.tasks.token_cache import StoredArray
from lingxi.training.losses import IGNORED

SHUFFLE_BUFFER = 10_000  # examples, of a data set of single texts
SORT_WINDOW = 50  # batches within which shuffled texts are sorted by length
SUMMED = 2**22  # numbers of a stored array that are in memory at once
LENGTH_STEP = 16 if keras.backend.backend() == "jax" else 1  # JAX compiles anew for each length


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the batches of a data set come from, for a `fit` that begins anywhere among them.

    Attributes:
        num_batches: of a pass, or None where nobody knows or there is no end.
        stream: a function from a number to a data set of all batches from that one on, pass after
            pass without end.
        describe: a function to a dict for JSON that differs where the batches do.
    """

    num_batches: int | None
    stream: collections.abc.Callable
    describe: collections.abc.Callable


class Batches:
    """Batches in an order, which is drawn anew for every epoch if it is "shuffled".

    It is a `Source`, too, until it has run. A subclass sets `order` and `rows`, the row numbers of
    each batch, and writes `_draw_batches`, `_signature` and `__getitem__`.
    """

    @property
    def num_batches(self):
        return len(self.rows)

    def dataset(self):
        """A `tf.data.Dataset` of the batches; a shuffled order is drawn anew each time it runs."""
        cardinality = tf.data.experimental.assert_cardinality(self.num_batches)
        dataset = self._generated(self._pass).apply(cardinality)
        dataset = ready(dataset)
        dataset.source = self
        return dataset

    def stream(self, first=0):
        """The batches of `dataset().repeat()` without so many first ones, which nobody makes."""

        def batches():
            number, start = divmod(first, self.num_batches)
            for _ in range(number):
                self._begin_pass()
            while True:
                yield from self._pass(start)
                start = 0

        return ready(self._generated(batches))

    def describe(self):
        """What must be the same for the same batches in the same order, as a dict for JSON."""
        return {"batches": self.num_batches, "sha256": checksum(vars(self))}

    def _generated(self, batches):
        return from_generator(batches, self._signature())

    def _begin_pass(self):
        if self.order == "shuffled":
            self.rows = self._draw_batches()

    def _pass(self, start=0):
        self._begin_pass()
        for index in range(start, self.num_batches):
            yield self[index]


class Slices:
    """Rows of an array, as many at a time: `slices[index]` is a view of those of a batch.

    As `np.split` has them, without the memory of a list of views.
    """

    def __init__(self, rows, size):
        self.rows = rows
        self.size = size

    def __len__(self):
        return -(-len(self.rows) // self.size)

    def __getitem__(self, index):
        return self.rows[index * self.size : (index + 1) * self.size]


class LengthBucketedBatches(Batches):
    """Batches of texts of similar length, each padded only to its own longest text.

    Args:
        inputs: dict of ragged tensors `[examples, (seq)]`, as a tokenizer returns with
            `padding=None`.
        targets: array `[examples, …]`; ragged `[examples, (seq)]`, as long as the inputs; or None.
        batch_size: examples a batch.
        pad_id: fills `token_ids`; other inputs get zeros, ragged targets `IGNORED`.
        order: "sorted" by length; "given"; or "shuffled": drawn anew every epoch, sorted by
            length within windows of `SORT_WINDOW` batches and cut into batches, which are
            shuffled again, so that hardly any padding is left and every batch but one is full.
        seed: of the shuffled order.
        sample_weights: array `[examples]` or None.
    """

    def __init__(self, inputs, targets, batch_size, pad_id, order, seed=None, sample_weights=None):
        self.splits = inputs["token_ids"].row_splits.numpy()
        self.values = {name: ragged.flat_values.numpy() for name, ragged in inputs.items()}
        self.pad_id = pad_id
        self.targets = targets
        if isinstance(targets, tf.RaggedTensor):
            self.targets = targets.flat_values.numpy()
        self.has_sequences = self.targets is not targets
        self.sample_weights = sample_weights
        self.batch_size = batch_size
        self.order = order
        self.random = np.random.default_rng(seed)
        self.rows = self._draw_batches()

    @property
    def num_examples(self):
        return len(self.splits) - 1

    @property
    def longest(self):
        """Tokens of the longest text."""
        return int(np.diff(self.splits).max(initial=0))

    def places(self, rows, length):
        """Where each token of these examples stands among all tokens, and whether there is one.

        Args:
            rows: numbers of `batch` examples.
            length: in tokens, to which they are padded.

        Returns:
            int `[batch, length]`, 0 where there is none; bool `[batch, length]`.
        """
        column = np.arange(length)
        real = column < np.diff(self.splits)[rows, np.newaxis]
        return np.where(real, self.splits[rows, np.newaxis] + column, 0), real

    def with_input(self, name, values, order, seed=None):
        """The same examples with one more input, `values` `[tokens, …]`, in another order."""
        more = copy.copy(self)
        more.values = {**self.values, name: values}
        more.order, more.random = order, np.random.default_rng(seed)
        more.rows = more._draw_batches()
        return more

    def _signature(self):
        signature = (
            {
                name: tf.TensorSpec([None, None, *values.shape[1:]], values.dtype)
                for name, values in self.values.items()
            },
        )
        if self.has_sequences:
            signature += (tf.TensorSpec([None, None], self.targets.dtype),)
        elif self.targets is not None:
            signature += (tf.TensorSpec([None, *self.targets.shape[1:]], self.targets.dtype),)
        if self.sample_weights is not None:
            signature += (tf.TensorSpec([None], self.sample_weights.dtype),)
        return signature

    def _draw_batches(self):
        """Row numbers of each batch."""
        lengths = np.diff(self.splits)
        rows = np.arange(len(lengths))
        if self.order == "sorted":
            rows = np.argsort(lengths, kind="stable")
        elif self.order == "shuffled":
            self.random.shuffle(rows)
            windows = np.split(rows, _cuts(len(rows), SORT_WINDOW * self.batch_size))
            rows = np.concatenate([w[np.argsort(lengths[w], kind="stable")] for w in windows])
        batches = np.split(rows, _cuts(len(rows), self.batch_size)) if len(rows) else []
        if self.order == "shuffled":
            self.random.shuffle(batches)
        return batches

    def __getitem__(self, index):
        rows = self.rows[index]
        length = padded_length(np.diff(self.splits)[rows], self.longest)
        place, real = self.places(rows, length)  # [batch, seq]

        def padded(values, fill):
            is_real = real.reshape(*real.shape, *[1] * (values.ndim - 1))  # [batch, seq, 1…]
            return np.where(is_real, values[place], fill).astype(values.dtype)

        batch = (
            {n: padded(v, self.pad_id if n == "token_ids" else 0) for n, v in self.values.items()},
        )
        if self.has_sequences:
            batch += (padded(self.targets, IGNORED),)
        elif self.targets is not None:
            batch += (self.targets[rows],)
        return batch if self.sample_weights is None else (*batch, self.sample_weights[rows])


def padded_length(lengths, longest):
    """To how many tokens texts of these lengths are padded, `longest` at most."""
    return int(padded_lengths(lengths, longest).max())


def padded_lengths(lengths, longest):
    """The same of each text by itself: int `[texts]`."""
    return np.minimum(-(-lengths // LENGTH_STEP) * LENGTH_STEP, longest)


def padded_in_graph(ragged, fill, longest):
    """Ragged ids `[batch, (seq)]` to `[batch, seq]`, as long as `padded_length` says."""
    return _lengthened(ragged.to_tensor(fill), fill, longest)


def lengthened(inputs, pad_id, longest):
    """What a tokenizer gives of a batch, `[batch, seq]` each, as long as `padded_length` says."""
    if LENGTH_STEP == 1:
        return inputs
    fills = {name: pad_id if name == "token_ids" else 0 for name in inputs}
    return {name: _lengthened(values, fills[name], longest) for name, values in inputs.items()}


def _lengthened(values, fill, longest):
    length = tf.shape(values)[1]
    missing = tf.minimum(-(-length // LENGTH_STEP) * LENGTH_STEP, longest) - length
    return tf.pad(values, [[0, 0], [0, missing]], constant_values=tf.cast(fill, values.dtype))


def ready(dataset):
    """The data set with a few batches made in advance."""
    # Autotuning's thread sleeps up to a minute, and the end of an epoch would wait for it.
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.prefetch(2).with_options(options)


def source_of_fit(data, shuffle, seed):
    """The `Source` of the arguments `x`, `y`, … of `keras.Model.fit`.

    Of a data set that is not of ours the batches to be left out are read nevertheless.

    Raises:
        TypeError: they are something that cannot be read from its middle.
    """
    dataset = data["x"]
    if isinstance(dataset, dict):
        dataset = dataset_of_arrays(**data, shuffle=shuffle, seed=seed)
    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(
            f"resume takes raw texts, tokenized arrays or a tf.data.Dataset, got {type(dataset)}"
        )
    return getattr(dataset, "source", None) or _source_of_any(
        dataset, lambda: {"elements": str(dataset.element_spec)}
    )


def _source_of_any(dataset, describe):
    cardinality = int(dataset.cardinality())
    count = cardinality if cardinality > 0 else None
    return Source(
        count,
        lambda first: dataset.repeat().skip(first),
        lambda: {"batches": count, **describe()},
    )


def dataset_of_arrays(x, y=None, batch_size=None, sample_weight=None, shuffle=False, seed=None):
    """Tokenized inputs, as `keras.Model.fit` takes them, as a data set of batches."""
    parts = tuple(part for part in (x, y, sample_weight) if part is not None)
    dataset = tf.data.Dataset.from_tensor_slices(parts)
    if shuffle:
        dataset = dataset.shuffle(len(dataset), seed)
    dataset = dataset.batch(batch_size or BATCH_SIZE)
    dataset.source = _source_of_any(dataset, lambda: {"sha256": checksum([*parts, shuffle])})
    return dataset


def checksum(value):
    """SHA-256 of numbers, strings and arrays in dicts, lists and objects of this package."""
    digest = hashlib.sha256()

    def add(value):
        if isinstance(value, np.ndarray) and value.dtype != object:
            digest.update(f"{value.dtype}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
        elif isinstance(value, StoredArray):  # as the same one in memory
            digest.update(f"int32({len(value)},)".encode())
            for start in range(0, len(value), SUMMED):
                digest.update(value[start : start + SUMMED])
        elif isinstance(value, (list, tuple, np.ndarray)):
            digest.update(f"{len(value)}[".encode())
            for item in value:
                add(item)
        elif isinstance(value, dict):
            for name in sorted(value):
                digest.update(f"{name}:".encode())
                add(value[name])
        elif type(value).__module__.startswith("lingxi.tasks"):
            add(vars(value))
        elif value is None or isinstance(value, (int, float, str, bytes, np.generic)):
            digest.update(f"{value!r},".encode())

    add(value)
    return digest.hexdigest()


def unpadded(inputs):
    """Padded inputs `[examples, seq]`, of which one is `padding_mask`, as ragged ones."""
    lengths = tf.reduce_sum(tf.cast(inputs["padding_mask"], tf.int32), axis=1)
    return {name: tf.RaggedTensor.from_tensor(x, lengths) for name, x in inputs.items()}


def _cuts(length, size):
    return range(size, length, size)


def is_raw(x):
    """Whether `x` is texts to tokenize, not something that Keras itself takes."""
    return not isinstance(x, (dict, tf.data.Dataset, keras.utils.PyDataset))


def tokenized_dataset(dataset, encode, batch_size=None, shuffle=False, seed=None):
    """A data set of raw texts as one of token ids; one of single texts is batched.

    Args:
        dataset: of texts, `(texts, targets)` or `(texts, targets, weights)`, where `texts` may be
            a tuple of two; one that is tokenized already comes back as it is.
        encode: a function of the parts of a batch, in TensorFlow's graph.
        batch_size, shuffle, seed: for single texts.

    Raises:
        TypeError: it holds neither texts nor token ids.
    """
    spec = dataset.element_spec
    texts = spec[0] if isinstance(spec, tuple) else spec
    if isinstance(texts, dict) and "token_ids" in texts:
        return dataset
    leaf = tf.nest.flatten(texts)[0]
    if leaf.dtype != tf.string:
        raise TypeError(f"the data set must give texts (strings) or tokenized inputs, got {texts}")
    if leaf.shape.rank == 0:
        if shuffle:
            dataset = dataset.shuffle(SHUFFLE_BUFFER, seed)
        dataset = dataset.batch(batch_size or BATCH_SIZE)
    return dataset.map(encode, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def steps_per_epoch(data):
    """Batches in the arguments `x`, `y`, `batch_size` of `fit`, or None where nobody knows."""
    if isinstance(data["x"], tf.data.Dataset):
        cardinality = int(data["x"].cardinality())
        return cardinality if cardinality > 0 else None
    if isinstance(data["x"], dict):
        return math.ceil(len(data["y"]) / data.get("batch_size", BATCH_SIZE))
    return data["x"].num_batches


def prepared_tfds(name, split):
    """The builder of a TFDS data set that is on this machine and has that split.

    Raises:
        FileNotFoundError, ImportError, ValueError: it is not prepared, not readable, has no such
            split.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f"{name!r} is read by tensorflow-datasets: pip install tensorflow-datasets"
        ) from error
    builder = tfds.builder(name)
    if not builder.data_path.exists():
        raise FileNotFoundError(
            f"the data set {name!r} is not at {builder.data_path}; lingxi downloads nothing by "
            f"itself: run tfds.builder({name!r}).download_and_prepare(), or set TFDS_DATA_DIR"
        )
    if split not in builder.info.splits:
        raise ValueError(f"{name!r} has no split {split!r}; it has {list(builder.info.splits)}")
    return builder


def load_tfds(name, split):
    """A TFDS data set such as "glue/sst2" as (features, label names of its `label`)."""
    builder = prepared_tfds(name, split)
    features = builder.info.features
    if "label" not in features:
        raise ValueError(f"{name!r} has no feature 'label'; it has {list(features)}")
    texts = [
        key for key, feature in features.items() if feature.dtype in (str, "string", tf.string)
    ]
    texts.sort(key=lambda key: (key != "premise", key))  # TFDS gives them in any order
    if len(texts) not in (1, 2):
        raise ValueError(f"{name!r} needs one or two text features; it has {texts}")
    columns = {key: [] for key in (*texts, "label")}
    for example in builder.as_dataset(split=split).as_numpy_iterator():
        for key, column in columns.items():
            column.append(example[key])
    label_names = getattr(features["label"], "names", None)
    x = columns[texts[0]] if len(texts) == 1 else (columns[texts[0]], columns[texts[1]])
    labels = columns["label"]
    if label_names:
        labels = [label_names[int(label)] for label in labels]
    return x, labels
