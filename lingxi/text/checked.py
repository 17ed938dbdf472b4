"""Checking the texts that a caller hands in, where no TensorFlow is needed."""

import reprlib
from collections.abc import Iterable, Mapping, Set

import numpy as np


def checked_texts(texts, name: str) -> list[str | bytes]:
    """A list, an array or another iterable of str (or of UTF-8 bytes) as a list.

    Args:
        name: of the argument, for the messages.

    Raises:
        TypeError: Anything else, with the index of the first item that is no text.
    """
    if isinstance(texts, (str, bytes)):
        raise TypeError(f"{name} must be a list of strings, got one string; wrap it: [{name}].")
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
    return texts


def as_bytes(texts, name: str) -> np.ndarray:
    """The same, or a string tensor of any bytes, as an array of UTF-8 bytes `[batch]`."""
    if hasattr(texts, "numpy"):
        array = np.asarray(texts.numpy(), object)
        if array.ndim != 1 or not all(isinstance(text, bytes) for text in array):
            raise TypeError(
                f"{name} must be a string tensor of rank 1, got {texts.dtype!r} of shape "
                f"{list(array.shape)}."
            )
        return array
    texts = checked_texts(texts, name)
    array = np.empty(len(texts), object)
    array[:] = [text.encode() if isinstance(text, str) else text for text in texts]
    return array


def why_not_text(item) -> str | None:
    """What `item` is if it is no text that TensorFlow can hold, else None."""
    if not isinstance(item, (str, bytes)):
        return f"{reprlib.repr(item)} of type {type(item).__name__}"
    try:
        item.encode() if isinstance(item, str) else item.decode()
    except UnicodeError as error:
        return f"not valid Unicode ({error})"
    return None
