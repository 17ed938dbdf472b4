"""Long texts as overlapping windows, each of which a backbone can read."""

from typing import NamedTuple

import tensorflow as tf

from lingxi.text.packing import pack
from lingxi.text.tokenizer import Tokenizer, ragged


class Windows(NamedTuple):
    """The windows of a batch of texts, one text after the other.

    Attributes:
        inputs: what a backbone takes, `[windows, seq]`: see `Tokenizer.__call__`.
        starts, ends: int32 `[windows, seq]`, where in its text each token stands, in characters of
            Python's `str`; (0, 0) for special tokens, padding, and tokens of the question.
        tokens: int32 `[windows, seq]`, the number of each token among those of all texts, -1 where
            there is none.
        rows: int32 `[windows]`, the number of the text.
        token_windows, token_positions: int32 `[batch, (tokens)]`: of the windows that hold a
            token, the one in which it stands furthest from the edge, and its column there.
    """

    inputs: dict[str, tf.Tensor]
    starts: tf.Tensor
    ends: tf.Tensor
    tokens: tf.Tensor
    rows: tf.Tensor
    token_windows: tf.RaggedTensor
    token_positions: tf.RaggedTensor


def windows(
    tokenizer: Tokenizer,
    texts: tf.Tensor,
    max_length: int,
    overlap: int,
    questions: tf.Tensor | None = None,
    max_question: int = 64,
    pad_to_max_length: bool = False,
) -> Windows:
    """Cut texts, string `[batch]`, into windows; in TensorFlow's graph.

    Args:
        max_length: of a window in tokens, with its special tokens and its question.
        overlap: tokens that a window shares with the next one of the same text.
        questions: string `[batch]`: one before every window of its text.
        max_question: tokens of a question; the rest is cut off.
        pad_to_max_length: `seq` is `max_length`; else the longest window's.

    Returns:
        At least one window for every text.
    """
    ids, starts, ends = tokenizer.tokenize_with_offsets(texts, "characters")
    num_special = tokenizer.template.num_special(1 if questions is None else 2)
    num_before = len(tokenizer.template.before)
    lengths = tf.cast(ids.row_lengths(), tf.int32)  # [batch]
    room = tf.fill(tf.shape(lengths), max_length - num_special)
    if questions is not None:
        asked = tokenizer.tokenize(questions)[:, :max_question]
        asked_lengths = tf.cast(asked.row_lengths(), tf.int32)
        room = room - asked_lengths

    # Window `i` of a text starts at token `i · step`; the last one reaches its end.
    step = tf.maximum(room - overlap, 1)
    counts = 1 + (tf.maximum(lengths - room, 0) + step - 1) // step  # [batch]
    rows = tf.repeat(tf.range(tf.size(counts)), counts)  # [windows]
    before = tf.cumsum(counts, exclusive=True)  # windows of the texts before, [batch]
    first = (tf.range(tf.size(rows)) - tf.gather(before, rows)) * tf.gather(step, rows)
    held = tf.minimum(tf.gather(room, rows), tf.gather(lengths, rows) - first)  # [windows]

    window_splits = tf.concat([[0], tf.cumsum(held)], axis=0)
    origin = tf.cast(tf.gather(ids.row_starts(), rows), tf.int32) + first  # [windows]
    index = tf.range(window_splits[-1]) + tf.repeat(origin - window_splits[:-1], held)
    parts = [
        [ragged(tf.gather(v.flat_values, index), window_splits, rows) for v in (ids, starts, ends)]
    ]
    if questions is not None:
        asked = tf.gather(asked, rows)
        nowhere = asked.with_flat_values(tf.zeros_like(asked.flat_values))
        parts.insert(0, [asked, nowhere, nowhere])
        num_before += len(tokenizer.template.between)
    packed = pack(
        *parts,
        template=tokenizer.template,
        pad_id=tokenizer.pad_id,
        max_length=max_length,
        pad_to_max_length=pad_to_max_length,
        with_segments=tokenizer.has_segments,
    )

    if questions is None:
        margin = tf.fill(tf.shape(lengths), num_before)  # columns before the text, [batch]
    else:
        margin = num_before + asked_lengths
    column = tf.expand_dims(tf.range(tf.shape(packed["token_ids"])[1]), 0)
    column = column - tf.expand_dims(tf.gather(margin, rows), 1)  # [windows, seq], in the window
    is_token = (column >= 0) & (column < tf.expand_dims(held, 1))

    # Token `t` is half the overlap or more from the edges of window `(t - overlap / 2) / step`.
    token_rows = tf.cast(ids.value_rowids(), tf.int32)  # [tokens]
    token = tf.range(tf.size(token_rows)) - tf.cast(
        tf.gather(ids.row_starts(), token_rows), tf.int32
    )
    own_step = tf.gather(step, token_rows)
    window = tf.clip_by_value(
        (token - overlap // 2) // own_step, 0, tf.gather(counts, token_rows) - 1
    )
    position = token - window * own_step + tf.gather(margin, token_rows)
    return Windows(
        starts=packed.pop("starts"),
        ends=packed.pop("ends"),
        tokens=tf.where(is_token, column + tf.expand_dims(origin, 1), -1),
        inputs=packed,
        rows=rows,
        token_windows=ids.with_flat_values(tf.gather(before, token_rows) + window),
        token_positions=ids.with_flat_values(position),
    )
