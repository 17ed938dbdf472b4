"""GPT-2's splitting of texts into words, without regular expressions.

The pattern is

    's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+

It looks ahead, which RE2 cannot, and TensorFlow's RE2 knows an older Unicode than the reference.
But whether a word starts at a character follows from its neighbours alone:

* a space starts a word after anything but a space, and where it is the last of several and
  something follows, as `\\s+(?!\\S)` leaves it over;
* anything else starts a word where its class differs from that of the character before, unless
  that is U+0020, which then started the word;
* so an apostrophe that starts a word and is followed by s, t, m, d, re, ve or ll is a contraction:
  the letters stay with it, and what follows them starts a word.

`bpe_characters.json` (written by `tools/bpe_characters.py`) holds the classes of the characters as
hexadecimal ranges.
"""

import functools
import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from lingxi.text.bert_normalizer import CODE_POINTS, code_points

OTHER, LETTER, NUMBER, SPACE = range(4)
PAGE = 256  # code points; the table of classes is stored as pages, most of which are equal


@functools.cache
def character_pages() -> tuple[np.ndarray, np.ndarray]:
    """The page of each 256 code points, int32 `[0x1100]`, and the classes, int8 `[pages * 256]`."""
    path = Path(__file__).with_name("bpe_characters.json")
    table = json.loads(path.read_text(encoding="utf-8"))
    classes = np.full(CODE_POINTS, OTHER, np.int8)
    for name, value in (("letter", LETTER), ("number", NUMBER), ("space", SPACE)):
        classes[list(code_points(table[name]))] = value
    pages, numbers = np.unique(classes.reshape(-1, PAGE), axis=0, return_inverse=True)
    return numbers.reshape(-1).astype(np.int32), pages.reshape(-1)


def shifted(values: tf.Tensor, by: int, fill) -> tf.Tensor:
    """`values[i - by]` at `i`, `fill` where there is none; negative `by` looks ahead."""
    size = tf.size(values)
    filling = tf.fill([tf.minimum(abs(by), size)], tf.cast(fill, values.dtype))
    if by > 0:
        return tf.concat([filling, values[:-by]], axis=0)
    return tf.concat([values[-by:], filling], axis=0)


def word_starts(codes: tf.Tensor, starts_text: tf.Tensor) -> tf.Tensor:
    """Whether a word starts at each character.

    `codes` are the code points of all texts, one after the other, int32 `[characters]`;
    `starts_text` (bool) marks the first of each text. Returns bool `[characters]`.
    """
    numbers, classes = character_pages()
    page = tf.gather(tf.constant(numbers), codes // PAGE)
    kind = tf.gather(tf.constant(classes), page * PAGE + codes % PAGE)  # [characters]

    is_space = tf.equal(kind, SPACE)
    follows_space = shifted(is_space, 1, False) & ~starts_text
    has_next = ~shifted(starts_text, -1, True)
    before_other = has_next & ~shifted(is_space, -1, True)
    changes = starts_text | (kind != shifted(kind, 1, SPACE))
    follows_blank = shifted(codes == ord(" "), 1, False) & ~starts_text
    starts = tf.where(is_space, ~follows_space | before_other, changes & ~follows_blank)

    second = tf.where(has_next, shifted(codes, -1, 0), 0)
    has_third = has_next & shifted(has_next, -1, False)
    third = tf.where(has_third, shifted(codes, -2, 0), 0)
    apostrophe = starts & (codes == ord("'"))
    one = apostrophe & one_of(second, "stmd")
    two = apostrophe & (
        ((second == ord("l")) & (third == ord("l"))) | (one_of(second, "rv") & (third == ord("e")))
    )
    inside = shifted(one | two, 1, False)
    return (starts & ~inside) | shifted(one, 2, False) | shifted(two, 3, False)


def one_of(codes: tf.Tensor, letters: str) -> tf.Tensor:
    """Whether each code point is one of the letters."""
    return tf.reduce_any(tf.expand_dims(codes, 1) == [ord(x) for x in letters], axis=1)
