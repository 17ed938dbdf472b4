"""Pairs of a source and a target text, in every form that `fit` accepts, to batches."""

import collections.abc
import gzip
import os
import pathlib

import numpy as np
import tensorflow as tf

from lingxi.tasks.text_data import (
    Batches,
    padded_in_graph,
    padded_length,
    padded_lengths,
    prepared_tfds,
)
from lingxi.training import IGNORED

TOKENS_PER_BATCH = 4096
FILE_ENDINGS = (".gz", ".tsv", ".txt")
SHUFFLE_BUFFER = 10_000  # pairs, of a data set of single pairs
LENGTH_LIMITS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)  # of both texts
CHUNK = 256  # pairs that are tokenized at once


def read_pairs(x, y=None, split="train"):
    """`(sources, targets)`, two lists of str, of anything that `fit` accepts but data sets.

    Args:
        x: texts, with as many in `y`; a list of pairs; a tuple of the two; the path of a file with
            one source a line, with that of the targets in `y`; the path of one file with source
            and target in the first two columns, between tabs, blank lines left out; the name of a
            prepared TFDS data set. A path that ends in ".gz" is unzipped.
        split: of a TFDS data set.

    Raises:
        FileNotFoundError, TypeError, ValueError: saying what does not fit.
    """
    if y is None and isinstance(x, tuple) and len(x) == 2:
        x, y = x
    if names_tfds(x, y):
        sources, targets = _load_tfds(x, split)
    elif _is_path(x):
        sources, targets = _read_columns(x) if y is None else (_read_lines(x), _read_lines(y))
    elif y is None:
        sources, targets = _unzip(x.tolist() if isinstance(x, np.ndarray) else x)
    else:
        sources, targets = list(x), list(y)
    if len(sources) != len(targets):
        raise ValueError(
            f"got {len(sources)} sources, but {len(targets)} targets; each text needs its other one"
        )
    if not sources:
        raise ValueError("got no pairs; pass at least one source and its target")
    return sources, targets


def names_tfds(x, y=None):
    """Whether `x` is the name of a TFDS data set: no file, nor called like one."""
    if not isinstance(x, str) or y is not None or os.path.exists(os.path.expanduser(x)):
        return False
    return not x.endswith(FILE_ENDINGS)


def _is_path(x):
    return isinstance(x, (str, os.PathLike))


def _read_lines(path):
    """The lines of a text file; only "\\n" ends one."""
    path = pathlib.Path(path).expanduser()
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    text = data.decode("utf-8-sig").replace("\r\n", "\n")
    return text.removesuffix("\n").split("\n")


def _read_columns(path):
    sources, targets = [], []
    for number, line in enumerate(_read_lines(path), start=1):
        if not line.strip():
            continue
        columns = line.split("\t")
        if len(columns) < 2:
            raise ValueError(
                f"{path}:{number}: expected a source and a target with a tab between them, got "
                f"{line[:80]!r}; for a file of sources, pass the file of targets too"
            )
        sources.append(columns[0])
        targets.append(columns[1])
    return sources, targets


def _unzip(pairs):
    if not isinstance(pairs, collections.abc.Sequence):
        raise TypeError(f"expected pairs of texts, their two lists or their files, got {pairs!r}")
    for index, pair in enumerate(pairs):
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise TypeError(f"item {index} is no pair (source, target): {pair!r}")
    return [source for source, _ in pairs], [target for _, target in pairs]


def _load_tfds(name, split):
    """Sources and targets of a TFDS data set: its supervised keys, such as article and highlights.

    Raises:
        FileNotFoundError, ImportError, ValueError: it is not prepared, or has no two such texts.
    """
    builder = prepared_tfds(name, split)
    keys = builder.info.supervised_keys
    features = builder.info.features
    is_text = keys and all(features[key].dtype in (str, "string", tf.string) for key in keys)
    if not is_text or len(keys) != 2:
        raise ValueError(f"{name!r} has no source and target text; its features are {features}")
    sources, targets = [], []
    for example in builder.as_dataset(split=split).as_numpy_iterator():
        sources.append(example[keys[0]].decode())
        targets.append(example[keys[1]].decode())
    return sources, targets


def tokenized_pairs(dataset, encode, start_id, pad_ids, tokens_per_batch, shuffle, seed=None):
    """A data set of pairs of texts as one of batches, as `PairBatches` has them.

    Args:
        dataset: of `(source, target)`, strings or `[batch]`; one that is tokenized already comes
            back as it is. Single pairs are put together to batches of similar lengths.
        encode: a function of strings `[batch]` and `[batch]` to ragged ids of both.
        start_id, pad_ids, tokens_per_batch: as of `PairBatches`.
        shuffle, seed: single pairs, before they are put together.

    Raises:
        TypeError: it holds something else.
    """
    spec = dataset.element_spec
    if isinstance(spec, tuple) and isinstance(spec[0], dict):
        return dataset
    if not isinstance(spec, tuple) or len(spec) != 2 or any(s.dtype != tf.string for s in spec):
        raise TypeError(f"the data set must give pairs (source, target) of strings, got {spec}")

    if spec[0].shape.rank == 1:

        def padded(sources, targets):
            ids = (ids.to_tensor(IGNORED) for ids in encode(sources, targets))
            return _shifted(*ids, start_id, pad_ids)

        return dataset.map(padded, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    if shuffle:
        dataset = dataset.shuffle(SHUFFLE_BUFFER, seed)
    limits = [limit for limit in LENGTH_LIMITS if limit < tokens_per_batch]
    dataset = dataset.batch(CHUNK).map(encode, tf.data.AUTOTUNE).unbatch()
    dataset = dataset.map(lambda *ids: tuple(map(tf.identity, ids)))  # rows that are not ragged
    dataset = dataset.bucket_by_sequence_length(
        lambda source, target: tf.size(source) + tf.size(target),
        bucket_boundaries=[limit + 1 for limit in limits],
        bucket_batch_sizes=[*(tokens_per_batch // limit for limit in limits), 1],
        padded_shapes=([None], [None]),
        padding_values=(IGNORED, IGNORED),
    )
    dataset = dataset.map(lambda *ids: _shifted(*ids, start_id, pad_ids), tf.data.AUTOTUNE)
    return dataset.prefetch(tf.data.AUTOTUNE)


def batch_in_graph(sources, targets, start_id, pad_ids, longest):
    """A batch as `PairBatches` has them of ragged ids `[batch, (seq)]`, `longest` at most."""
    padded = (padded_in_graph(ids, IGNORED, longest) for ids in (sources, targets))
    return _shifted(*padded, start_id, pad_ids)


def _shifted(source_ids, target_ids, start_id, pad_ids):
    """Ids `[batch, seq]`, filled with `IGNORED`, to what the model takes and the labels."""
    source_mask = source_ids != IGNORED
    filled = tf.where(target_ids != IGNORED, target_ids, pad_ids[1])
    start = tf.fill([tf.shape(target_ids)[0], 1], start_id)
    inputs = {
        "encoder_token_ids": tf.where(source_mask, source_ids, pad_ids[0]),
        "encoder_padding_mask": source_mask,
        "decoder_token_ids": tf.concat([start, filled[:, :-1]], axis=1),
    }
    return inputs, target_ids


class PairBatches(Batches):
    """Batches of pairs of similar lengths, each padded only to its own longest texts.

    A batch is `(inputs, labels)`: `encoder_token_ids`, `encoder_padding_mask`, `decoder_token_ids`
    (the decoder's start, then the target without its last token), and the target's tokens, with
    `IGNORED` for padding.

    Args:
        sources, targets: ragged ids `[pairs, (seq)]`, special tokens included.
        start_id: of the decoder's input.
        pad_ids: of the source and of the target.
        tokens_per_batch: source and target tokens, with their padding, at most; of one longer pair
            a batch is made nevertheless.
        batch_size: pairs a batch, in place of `tokens_per_batch`.
        order: "sorted" by lengths; "given", for which batches hold neighbours; "shuffled": anew
            every epoch, pairs of equal lengths among each other, then the batches.
        seed: of the shuffled order.
        sample_weights: array `[pairs]` or None: as a third part of each batch.
    """

    def __init__(
        self,
        sources,
        targets,
        start_id,
        pad_ids,
        tokens_per_batch=TOKENS_PER_BATCH,
        batch_size=None,
        order="sorted",
        seed=None,
        sample_weights=None,
    ):
        self.sources, self.targets = _Rows(sources), _Rows(targets)
        self.start_id = start_id
        self.pad_ids = pad_ids
        self.tokens_per_batch = tokens_per_batch
        self.batch_size = batch_size
        self.order = order
        self.random = np.random.default_rng(seed)
        self.sample_weights = sample_weights
        self.rows = self._draw_batches()

    @property
    def num_examples(self):
        return len(self.sources.lengths)

    def _signature(self):
        ids = tf.TensorSpec([None, None], tf.int32)
        mask = tf.TensorSpec([None, None], tf.bool)
        inputs = {
            "encoder_token_ids": ids,
            "encoder_padding_mask": mask,
            "decoder_token_ids": ids,
        }
        if self.sample_weights is None:
            return inputs, ids
        return inputs, ids, tf.TensorSpec([None], tf.float32)

    def __getitem__(self, index):
        rows = self.rows[index]
        source_ids, source_mask = self.sources.padded(rows, self.pad_ids[0])
        target_ids, target_mask = self.targets.padded(rows, self.pad_ids[1])
        start = np.full((len(rows), 1), self.start_id, "int32")
        inputs = {
            "encoder_token_ids": source_ids,
            "encoder_padding_mask": source_mask,
            "decoder_token_ids": np.concatenate([start, target_ids[:, :-1]], axis=1),
        }
        labels = np.where(target_mask, target_ids, IGNORED).astype("int32")
        if self.sample_weights is None:
            return inputs, labels
        return inputs, labels, self.sample_weights[rows]

    def _draw_batches(self):
        """Row numbers of each batch."""
        rows = np.arange(self.num_examples)
        lengths = np.stack([self.sources.lengths, self.targets.lengths])
        if self.order == "shuffled":
            rows = self.random.permutation(rows)
        if self.order != "given":
            rows = rows[np.lexsort(lengths[:, rows])]  # by target, then by source
        batches = self._cut(rows)
        if self.order == "shuffled":
            self.random.shuffle(batches)
        return batches

    def _cut(self, rows):
        """Neighbours as batches of at most `tokens_per_batch`, or of `batch_size` pairs."""
        if self.batch_size is not None:
            return np.split(rows, range(self.batch_size, len(rows), self.batch_size))
        sides = (padded_lengths(s.lengths, s.lengths.max()) for s in (self.sources, self.targets))
        lengths = zip(*(lengths[rows].tolist() for lengths in sides), strict=True)
        batches = neighbours(zip(rows, lengths, strict=True), self.tokens_per_batch)
        return [np.array(batch) for batch in batches]


def neighbours(items, tokens_per_batch):
    """Items that come one by one, in their order, as lists of as many tokens as may be.

    Args:
        items: an iterator of `(item, (source, target))`, where the latter are lengths in tokens.
        tokens_per_batch: as of `PairBatches`.
    """
    batch, longest = [], (0, 0)
    for item, lengths in items:
        grown = tuple(map(max, longest, lengths))
        if batch and (len(batch) + 1) * sum(grown) > tokens_per_batch:
            yield batch
            batch, grown = [], lengths
        batch.append(item)
        longest = grown
    if batch:
        yield batch


class _Rows:
    """Ragged ids as NumPy arrays."""

    def __init__(self, ragged):
        splits = ragged.row_splits.numpy()
        self.starts, self.lengths = splits[:-1], np.diff(splits)
        self.values = ragged.flat_values.numpy()

    def padded(self, rows, pad_id):
        """Ids int32 and mask bool `[rows, seq]`, as long as the longest of the rows, or longer."""
        starts, lengths = self.starts[rows], self.lengths[rows]
        column = np.arange(padded_length(lengths, self.lengths.max()))  # [seq]
        real = column < lengths[:, np.newaxis]  # [rows, seq]
        position = np.where(real, starts[:, np.newaxis] + column, 0)
        return np.where(real, self.values[position], pad_id).astype("int32"), real
