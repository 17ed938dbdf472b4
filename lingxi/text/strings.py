"""Checking the texts that a caller hands in."""

import reprlib
from collections.abc import Iterable, Mapping, Set

import tensorflow as tf


def as_strings(texts, name: str) -> tf.Tensor:
    """Any accepted kind of texts as a string tensor `[batch]`; `name` is for the messages.

    Accepted are lists and other sequences of str (or of UTF-8 bytes), NumPy arrays of strings and
    string tensors of rank 1, symbolic ones included.

    Raises:
        TypeError: Anything else, with the index of the first item that is no text.
    """
    if isinstance(texts, (str, bytes)):
        raise TypeError(f"{name} must be a list of strings, got one string; wrap it: [{name}].")
    if tf.is_tensor(texts):
        if texts.dtype != tf.string or texts.shape.rank != 1:
            raise TypeError(
                f"{name} must be a string tensor of rank 1, got {texts.dtype.name} of shape "
                f"{texts.shape}; batch the data set, or reshape to [-1], first."
            )
        return texts
    if not isinstance(texts, Iterable) or isinstance(texts, (Mapping, Set)):
        raise TypeError(
            f"{name} must be a list of strings, a NumPy array of strings or a string tensor, "
            f"got {type(texts).__name__}."
        )
    texts = list(texts)
    for i, text in enumerate(texts):
        problem = why_not_text(text)
        if problem:
            raise TypeError(
                f"{name}[{i}] is {problem}; every item must be str (or UTF-8 bytes). Drop or "
                'replace such items first, for instance by "".'
            )
    return tf.constant(texts, tf.string, shape=[len(texts)])


def why_not_text(item) -> str | None:
    """What `item` is if it is no text that TensorFlow can hold, else None."""
    if not isinstance(item, (str, bytes)):
        return f"{reprlib.repr(item)} of type {type(item).__name__}"
    try:
        item.encode() if isinstance(item, str) else item.decode()
    except UnicodeError as error:
        return f"not valid Unicode ({error})"
    return None
