"""Checking the texts that a caller hands in."""

import tensorflow as tf

from lingxi.text.checked import checked_texts


def as_strings(texts, name: str) -> tf.Tensor:
    """Any accepted kind of texts as a string tensor `[batch]`; `name` is for the messages.

    Accepted are lists and other sequences of str (or of UTF-8 bytes), NumPy arrays of strings and
    string tensors of rank 1, symbolic ones included.

    Raises:
        TypeError: Anything else, with the index of the first item that is no text.
    """
    if tf.is_tensor(texts):
        if texts.dtype != tf.string or texts.shape.rank != 1:
            raise TypeError(
                f"{name} must be a string tensor of rank 1, got {texts.dtype.name} of shape "
                f"{texts.shape}; batch the data set, or reshape to [-1], first."
            )
        return texts
    texts = checked_texts(texts, name)
    return tf.constant(texts, tf.string, shape=[len(texts)])
