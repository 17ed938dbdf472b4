"""Plain texts to blocks of tokens: all documents one after the other, without padding."""

import collections.abc
import functools
import itertools
import os
import pathlib

import numpy as np
import tensorflow as tf

from lingxi.python_functions import from_generator, mapped
from lingxi.tasks.text_data import Source, checksum, ready
from lingxi.tasks.text_pieces import grouped, pieces
from lingxi.tasks.token_cache import in_memory
from lingxi.text.checked import checked_texts
from lingxi.training.losses import IGNORED

BATCH_TOKENS = 8192  # of a batch by default
MOST_BLOCKS = 32  # of a batch by default
SHUFFLED_BLOCKS = 10_000  # of a data set, whose size nobody knows
PART = 1_000_000  # tokens that are in memory at once, of what is on the disk
TEXTS = 64  # of a data set that are tokenized at once


def batch_size_for(block_size):
    """Blocks of a batch by default: long ones are few, as their logits must fit in memory."""
    return max(1, min(MOST_BLOCKS, BATCH_TOKENS // block_size))


def is_text(x):
    """Whether `x` is something that `blocks` takes, not something that Keras itself takes."""
    if isinstance(x, tf.data.Dataset):
        return isinstance(x.element_spec, tf.TensorSpec) and x.element_spec.dtype == tf.string
    return isinstance(x, (str, os.PathLike, collections.abc.Sequence, np.ndarray))


def blocks(
    x, tokenizer, block_size, batch_size, shuffle=False, repeat=False, seed=None, cache=None
):
    """Batches of blocks for the training of a language model.

    The end token follows every document. The target of a token is the token after it; the first
    token of all is predicted from an end token.

    Args:
        x: list of documents; path of a text file (`str` or `Path`), or list of `Path`s, each file
            a document; or a `tf.data.Dataset` of strings, single or batched, which is read as a
            stream and never held in memory.
        tokenizer: a `lingxi.text.Tokenizer` with an end token.
        block_size: tokens of a block.
        batch_size: blocks of a batch.
        shuffle: blocks in random order, cut at another offset every time, full batches only. Else
            all tokens in their order, and the last block is filled up with `IGNORED` targets.
        repeat: without end.
        seed: of order and offsets.
        cache: a `TokenCache` to keep the tokens of files in, or None.

    Returns:
        A `tf.data.Dataset` of `({"token_ids": [batch, block]}, [batch, block])`.
    """
    if tokenizer.eos_id is None:
        raise ValueError(
            "the tokenizer has no end token (special token 'eos') to put between documents"
        )
    eos_id = tokenizer.eos_id
    if isinstance(x, tf.data.Dataset):
        stream = _streamed(x, tokenizer)
        if shuffle:
            dataset = _shuffled_stream(stream, block_size, batch_size, repeat, seed, eos_id)
        else:
            dataset = _in_order(stream, block_size, batch_size, eos_id)
    else:
        tokens = token_stream(x, tokenizer, cache)
        if shuffle:
            dataset = _shuffled(tokens, block_size, batch_size, repeat, seed)
        else:
            dataset = _in_order(_parts(tokens, eos_id), block_size, batch_size, eos_id)
            count = -(-len(tokens) // (block_size * batch_size))
            dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    prefetched = ready(dataset)
    if hasattr(dataset, "source"):
        prefetched.source = dataset.source
    return prefetched


def token_stream(x, tokenizer, cache=None):
    """int32 `[tokens]`: every document and the end token after it.

    Args:
        cache: a `TokenCache`, from which it is a `StoredArray`; or None, in memory.
    """

    def parts(verbose=False):
        for group in grouped(_pieces(x, verbose), lambda piece: len(piece[0])):
            texts, ends = zip(*group, strict=True)
            tokens = _with_ends(tokenizer.tokenize(texts), tokenizer.eos_id, ends)
            yield {"tokens": tokens.numpy()}

    if cache is None:
        return in_memory(parts())["tokens"]
    return cache.arrays(documents(x), tokenizer, "documents and ends", parts)["tokens"]


def _pieces(x, verbose):
    """`(text, ends)`: all documents, files piece by piece, and whether a document ends with it."""
    for document in documents(x):
        if isinstance(document, os.PathLike):
            parts = itertools.chain(pieces(document, verbose), [None])
            for part, after in itertools.pairwise(parts):
                yield part, after is None
        else:
            yield document, True


def documents(x):
    """The documents that `x` names or holds: a list of texts and of `Path`s of files.

    Raises:
        FileNotFoundError: no such file. ValueError: no text at all. TypeError: something that is
            neither text nor path.
    """
    if isinstance(x, str):
        path = pathlib.Path(x).expanduser()
        try:
            path.stat()
        except OSError as error:
            error.strerror = f"{error.strerror}; a text itself, not its file, goes in a list"
            raise
        return [path]
    x = [x] if isinstance(x, os.PathLike) else list(x)
    if not x:
        raise ValueError("got no texts; pass at least one document")
    checked_texts(["" if isinstance(item, os.PathLike) else item for item in x], "texts")
    return [
        pathlib.Path(item).expanduser() if isinstance(item, os.PathLike) else item for item in x
    ]


def _with_ends(tokens, eos_id, where=None):
    """Ragged int32 `[texts, (tokens)]` to `[all tokens]`, an end token after each text.

    Args:
        where: bool `[texts]`: after these alone.
    """
    where = tf.fill([tokens.nrows()], True) if where is None else tf.constant(where)
    ends = tf.fill([tf.math.count_nonzero(where)], tf.cast(eos_id, tokens.dtype))
    ends = tf.RaggedTensor.from_row_lengths(
        ends, tf.cast(where, tokens.row_splits.dtype), validate=False
    )
    return tf.concat([tokens, ends], axis=1).flat_values


def _pair(tokens, eos_id):
    """Inputs and targets, from whole documents: an end token was before them."""
    return tf.concat([[eos_id], tokens[:-1]], axis=0), tokens


def _parts(tokens, eos_id):
    """A data set of inputs and targets int32 `[tokens]`, part by part; an end token is before."""

    def parts():
        before = eos_id
        for start in range(0, len(tokens), PART):
            targets = tokens[start : start + PART]
            yield np.append(before, targets[:-1]).astype("int32"), targets
            before = targets[-1]

    part = tf.TensorSpec([None], tf.int32)
    return from_generator(parts, (part, part))


def _streamed(texts, tokenizer):
    """A data set of texts as one of inputs and targets int32 `[tokens]`."""
    if texts.element_spec.shape.rank == 0:
        texts = texts.batch(TEXTS)
    eos_id = tokenizer.eos_id
    return texts.map(lambda batch: _pair(_with_ends(tokenizer.tokenize(batch), eos_id), eos_id))


def _in_order(stream, block_size, batch_size, eos_id):
    """Batches of all tokens, of inputs and targets `[tokens]` of any length."""

    def cut(*pair):
        missing = -tf.size(pair[0]) % block_size
        inputs, targets = (
            tf.reshape(tf.pad(part, [[0, missing]], constant_values=fill), [-1, block_size])
            for part, fill in zip(pair, (eos_id, IGNORED), strict=True)
        )
        return {"token_ids": inputs}, targets

    return stream.rebatch(block_size * batch_size).map(cut)


def _shuffled(tokens, block_size, batch_size, repeat, seed):
    """Batches of random blocks of `tokens`: a ring, cut at another place in every epoch."""
    total = len(tokens)
    size = min(block_size, total)
    count = total // size
    if not repeat:
        batch_size = min(batch_size, count)
    of_pass = count if repeat else count - count % batch_size  # blocks of whole batches
    describe = functools.partial(_description, tokens, size, batch_size)
    number = tf.int32 if total <= tf.int32.max else tf.int64

    def starts(seed):
        order, offset = tf.unstack(tf.random.experimental.stateless_split([seed, 0], 2))
        first = tf.random.stateless_uniform([], offset, 0, total, number)
        shuffled = tf.random.experimental.stateless_shuffle(tf.range(count), order)
        starts = tf.cast(first, tf.int64) + size * tf.cast(shuffled, tf.int64)
        return tf.data.Dataset.from_tensor_slices(starts[:of_pass])

    def tokens_from(starts):
        place = starts[:, np.newaxis] + np.arange(size + 1)  # [batch, size + 1]
        return tokens[place % total]

    def batches(seeds, skipped=0):
        blocks = seeds.flat_map(starts).skip(skipped).batch(batch_size, drop_remainder=True)
        blocks = mapped(blocks, tokens_from, tf.TensorSpec([batch_size, size + 1], tf.int32))
        return blocks.map(lambda block: ({"token_ids": block[:, :-1]}, block[:, 1:]))

    def stream(first):
        number, skipped = divmod(first * batch_size, of_pass)
        return ready(batches(tf.data.Dataset.random(seed).skip(number), skipped))

    dataset = batches(_epochs(repeat, seed))
    if not repeat:
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(count // batch_size))
    dataset.source = Source(None if repeat else count // batch_size, stream, describe)
    return dataset


def _description(tokens, block_size, batch_size):
    """What must be the same for the same batches, as a dict for JSON."""
    return {"tokens": checksum(tokens), "block_size": block_size, "batch_size": batch_size}


def _shuffled_stream(stream, block_size, batch_size, repeat, seed, eos_id):
    """Batches of blocks in about random order, cut at another place in every epoch."""

    def filler(length):
        return tf.data.Dataset.from_tensors((tf.fill([length], eos_id), tf.fill([length], IGNORED)))

    def blocks_of_epoch(seed):
        # One block of filler in all, so that every epoch has equally many.
        first = tf.random.stateless_uniform([], [seed, 0], 0, block_size, tf.int32)
        moved = filler(first).concatenate(stream).concatenate(filler(block_size - first))
        return _in_order(moved, block_size, 1, eos_id).unbatch()

    dataset = _epochs(repeat, seed).flat_map(blocks_of_epoch).shuffle(SHUFFLED_BLOCKS, seed)
    return dataset.batch(batch_size, drop_remainder=repeat)


def _epochs(repeat, seed):
    """A data set of one seed, or of seeds without end; another one each time it runs."""
    seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)
    return seeds if repeat else seeds.take(1)
