"""Ragged token ids to the dense batches that a backbone takes.

Few plain operations, all of them TFLite builtins; every shape that can be static is.
"""

import tensorflow as tf


def truncated_lengths(
    first: tf.Tensor, second: tf.Tensor, budget: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """How many tokens of each part fit in `budget` when the longer part gives way first.

    All are int32 `[batch]`. The shorter part keeps up to half of the budget, the longer has the
    rest; where both are equally long, the second has the odd token. Source: `truncate_encodings`
    with `LongestFirst` in Hugging Face `tokenizers`.
    """
    short = tf.minimum(tf.minimum(first, second), budget // 2)
    first_is_longer = first > second
    return (
        tf.minimum(first, tf.where(first_is_longer, budget - short, short)),
        tf.minimum(second, tf.where(first_is_longer, short, budget - short)),
    )


def columns_of(tokens: tf.RaggedTensor, columns: tf.Tensor) -> tf.Tensor:
    """`tokens[row, columns[row, i]]`, int32 `[batch, seq]`; any id where there is no such token."""
    values = tf.concat([tokens.flat_values, [0]], axis=0)
    starts = tf.expand_dims(tf.cast(tokens.row_starts(), tf.int32), 1)
    return tf.gather(values, tf.clip_by_value(starts + columns, 0, tf.size(values) - 1))


def pack(
    first: tf.RaggedTensor,
    second: tf.RaggedTensor | None = None,
    *,
    cls_id: int,
    sep_id: int,
    pad_id: int,
    max_length: int | tf.Tensor,
    pad_to_max_length: bool,
) -> dict[str, tf.Tensor]:
    """`[CLS] first [SEP]` or `[CLS] first [SEP] second [SEP]`, truncated and padded.

    `first` and `second` are int32 `[batch, (tokens)]`. Returns `token_ids` and `segment_ids`
    (int32) and `padding_mask` (bool, True = real token), all `[batch, seq]`, where `seq` is
    `max_length` (then an int), or the longest row of the batch.
    """
    first_length = tf.cast(first.row_lengths(), tf.int32)  # [batch]
    if second is None:
        num_special = 2
        first_length = tf.minimum(first_length, max_length - num_special)
        total = first_length + num_special
    else:
        num_special = 3
        first_length, second_length = truncated_lengths(
            first_length, tf.cast(second.row_lengths(), tf.int32), max_length - num_special
        )
        total = first_length + second_length + num_special

    if pad_to_max_length:
        seq = max_length
    else:
        seq = tf.reduce_max(tf.concat([total, [num_special]], axis=0))  # an empty batch has a row
    column = tf.expand_dims(tf.range(seq), 0)  # [1, seq]
    first_sep = tf.expand_dims(first_length + 1, 1)  # [batch, 1]
    last_sep = tf.expand_dims(total - 1, 1)  # [batch, 1]

    body = columns_of(first, column - 1)  # [batch, seq]
    if second is not None:
        body = tf.where(column > first_sep, columns_of(second, column - first_sep - 1), body)
    token_ids = tf.where(column == 0, cls_id, body)
    token_ids = tf.where((column == first_sep) | (column == last_sep), sep_id, token_ids)
    padding_mask = column <= last_sep  # [batch, seq]
    return {
        "token_ids": tf.where(padding_mask, token_ids, pad_id),
        "segment_ids": tf.cast((column > first_sep) & padding_mask, tf.int32),
        "padding_mask": padding_mask,
    }
