"""Texts in the forms that verbs accept, and the arrays of several batches as one."""

import collections.abc

import numpy as np

BATCH_SIZE = 32


def split_pairs(x):
    """`(texts, pairs)` of a list of strings, or of a list of `(text, pair)`.

    Also accepted: an array of strings `[examples]` or `[examples, 2]`; a tuple of two sequences.
    """
    if isinstance(x, tuple) and len(x) == 2 and not isinstance(x[0], str):
        return x
    if isinstance(x, np.ndarray) and x.ndim == 2 and x.shape[1] == 2:
        return x[:, 0], x[:, 1]
    if isinstance(x, collections.abc.Sequence) and len(x) and _is_pair(x[0]):
        for index, item in enumerate(x):
            if not _is_pair(item):
                raise TypeError(
                    f"item 0 is a pair of texts, but item {index} is {item!r}; "
                    "give only pairs (text, pair) or only single texts"
                )
        return [first for first, _ in x], [second for _, second in x]
    return x, None


def _is_pair(item):
    return isinstance(item, (tuple, list)) and len(item) == 2


def stacked(batches):
    """One dict of arrays from several of `[batch, …]`; shorter ones get zeros, or empty strings."""
    batches = list(batches)
    together = {}
    for name, first in batches[0].items():
        parts = [batch[name] for batch in batches]
        widest = np.max([part.shape[1:] for part in parts], axis=0).astype(int)
        fill = b"" if first.dtype == object else 0
        together[name] = np.concatenate([_widened(part, widest, fill) for part in parts])
    return together


def _widened(array, shape, fill):
    """`array` `[batch, …]` with axes after the first one as long as `shape` says."""
    margins = [(0, 0), *((0, int(n) - m) for n, m in zip(shape, array.shape[1:], strict=True))]
    return np.pad(array, margins, constant_values=fill)
