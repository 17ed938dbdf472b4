"""Positions in the UTF-8 bytes of texts, and the same positions as indices of a Python `str`."""

import tensorflow as tf


def text_bytes(texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The bytes of all texts `[batch]` one after the other, uint8, and the row splits, int32."""
    splits = tf.concat([[0], tf.cumsum(tf.strings.length(texts))], axis=0)
    return tf.io.decode_raw(tf.strings.reduce_join(texts), tf.uint8), splits


def starts_character(data: tf.Tensor) -> tf.Tensor:
    """Whether each byte is the first one of a character: bool, of the shape of `data`."""
    return tf.bitwise.bitwise_and(data, 0xC0) != 0x80


def to_characters(
    texts: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor, row_splits: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Spans in bytes, int32 `[tokens]`, as spans in characters of the texts `[batch]`."""
    data, text_splits = text_bytes(texts)
    counts = tf.cumsum(tf.cast(starts_character(data), tf.int32))
    before = tf.concat([[0], counts], axis=0)  # [bytes + 1], characters before each byte
    text_starts = tf.repeat(text_splits[:-1], row_splits[1:] - row_splits[:-1])  # [tokens]
    origin = tf.gather(before, text_starts)
    return (
        tf.gather(before, text_starts + starts) - origin,
        tf.gather(before, text_starts + ends) - origin,
    )
