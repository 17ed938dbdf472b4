"""Ragged token ids to the dense batches that a backbone takes.

Few plain operations, all of them TFLite builtins; every shape that can be static is.
"""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf


class Template(NamedTuple):
    """The ids of the special tokens: before a text, between two texts, and after the last one."""

    before: tuple[int, ...] = ()
    between: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    def num_special(self, num_texts: int) -> int:
        return len(self.before) + len(self.between) * (num_texts - 1) + len(self.after)


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
    *parts: Sequence[tf.RaggedTensor],
    template: Template,
    pad_id: int,
    max_length: int | tf.Tensor,
    pad_to_max_length: bool,
    with_segments: bool,
) -> dict[str, tf.Tensor]:
    """One or two texts with the special tokens of `template`, truncated and padded.

    Each part is the ids of a text and, if wanted, the starts and ends of its tokens, all int32
    `[batch, (tokens)]`. Returns `token_ids` (int32), `segment_ids` (int32, where wanted),
    `padding_mask` (bool, True = real token), and `starts` and `ends` if given (0 for special
    tokens), all `[batch, seq]`, where `seq` is `max_length` (then an int), or the longest row of
    the batch.
    """
    num_before, num_special = len(template.before), template.num_special(len(parts))
    first_length = tf.cast(parts[0][0].row_lengths(), tf.int32)  # [batch]
    if len(parts) == 1:
        first_length = tf.minimum(first_length, max_length - num_special)
        total = first_length + num_special
    else:
        first_length, second_length = truncated_lengths(
            first_length, tf.cast(parts[1][0].row_lengths(), tf.int32), max_length - num_special
        )
        total = first_length + second_length + num_special

    if pad_to_max_length:
        seq = max_length
    else:  # an empty batch has a row, and every row a column
        seq = tf.reduce_max(tf.concat([total, [max(num_special, 1)]], axis=0))
    column = tf.expand_dims(tf.range(seq), 0)  # [1, seq]
    end = tf.expand_dims(total, 1)  # [batch, 1]
    padding_mask = column < end  # [batch, seq]

    places = defaultdict(list)  # special id -> where it stands, each [1 or batch, seq]
    for i, token_id in enumerate(template.before):
        places[token_id].append(column == i)
    if len(parts) == 2:
        first_end = tf.expand_dims(first_length + num_before, 1)  # [batch, 1]
        for i, token_id in enumerate(template.between):
            places[token_id].append(column == first_end + i)
    for i, token_id in enumerate(template.after):
        places[token_id].append(column == end - (len(template.after) - i))

    def body(i: int) -> tf.Tensor:
        """The `i`-th values of the parts, one text after the other: int32 `[batch, seq]`."""
        values = columns_of(parts[0][i], column - num_before if num_before else column)
        if len(parts) == 1:
            return values
        second_start = first_end + len(template.between)
        second = columns_of(parts[1][i], column - second_start)
        return tf.where(column >= second_start, second, values)

    token_ids = body(0)
    for token_id, masks in places.items():
        token_ids = tf.where(any_of(masks), token_id, token_ids)
    packed = {"token_ids": tf.where(padding_mask, token_ids, pad_id)}
    if with_segments:
        # Without a second text, none; not as a constant, which TFLite would embed in float32.
        second_start = first_end + len(template.between) if len(parts) == 2 else end
        packed["segment_ids"] = tf.cast((column >= second_start) & padding_mask, tf.int32)
    packed["padding_mask"] = padding_mask
    if len(parts[0]) > 1:
        special = any_of([~padding_mask, *itertools.chain(*places.values())])
        packed["starts"] = tf.where(special, 0, body(1))
        packed["ends"] = tf.where(special, 0, body(2))
    return packed


def any_of(masks: Sequence[tf.Tensor]) -> tf.Tensor:
    """The logical or of one or more masks."""
    result = masks[0]
    for mask in masks[1:]:
        result = result | mask
    return result
