"""Words of raw texts, as annotators of named entities cut them, from the tokens of a tokenizer."""

import unicodedata

import numpy as np
import tensorflow as tf

WORD, PUNCTUATION, CHARACTER, APOSTROPHE, S, GENITIVE, UNKNOWN = range(7)  # what a token is
_JOINED = frozenset("@#$%&_")  # punctuation that begins or ends a word: "@user", "#tag", "$5", "5%"


def token_kinds(tokenizer):
    """What each token of the vocabulary is: int32 `[vocab]`."""
    kinds = np.array([_kind(token) for token in tokenizer.token_bytes], "int32")
    if tokenizer.unk_id is not None:
        kinds[tokenizer.unk_id] = UNKNOWN
    return kinds


def _kind(token):
    text = token.decode("utf-8", "replace").strip()
    if text in ("'", "’"):
        return APOSTROPHE
    if text in ("s", "S"):
        return S
    if text in ("'s", "'S"):
        return GENITIVE
    if all(_is_alone(character) for character in text):  # also of a token that is only blanks
        return CHARACTER
    if all(_is_punctuation(character) for character in text):
        return PUNCTUATION
    return WORD


def _is_alone(character):
    """Whether a character is a word: Chinese and Japanese put no blanks between words."""
    return "CJK UNIFIED" in unicodedata.name(character, "") or "\u3040" <= character <= "\u30ff"


def _is_punctuation(character):
    return unicodedata.category(character)[0] in "PS" and character not in _JOINED | {"�"}


def word_starts(kinds, starts, ends, rows):
    """Whether each token begins a word: bool `[tokens]`, in TensorFlow's graph.

    Blanks end a word. So does each Chinese character; and punctuation at the edge of what stands
    between blanks, with each mark a word of its own, but not inside: "(U.S.-based)" has the words
    "(", "U.S.-based" and ")". An English "'s" is cut off. What one token holds stays together, and
    characters of which a token is only a part, as in byte-level BPE, count as letters.

    Args:
        kinds: int32 `[tokens]`, what `token_kinds` says of each token.
        starts, ends: int32 `[tokens]`, where it stands in its text.
        rows: int32 `[tokens]`, the number of its text, in ascending order.
    """
    count = tf.size(rows)
    is_single = (kinds == CHARACTER) | ((kinds == UNKNOWN) & (ends - starts == 1))
    apart = (starts > _before(ends, 0)) | (rows != _before(rows, -1))
    new_run = apart | is_single | _before(is_single, False)
    run = tf.cumsum(tf.cast(new_run, tf.int32)) - 1  # [tokens], between blanks and characters

    is_genitive = (kinds == S) & _before(kinds == APOSTROPHE, False) & ~new_run
    is_genitive |= kinds == GENITIVE
    is_genitive &= _after(new_run, True) | _after(kinds == PUNCTUATION, False)
    is_mark = (kinds == PUNCTUATION) | (kinds == APOSTROPHE) | is_genitive
    index = tf.range(count)
    first = tf.math.unsorted_segment_min(tf.where(is_mark, count, index), run, count)
    last = tf.math.unsorted_segment_max(tf.where(is_mark, -1, index), run, count)
    first, last = tf.gather(first, run), tf.gather(last, run)  # of the run's tokens but marks
    return new_run | (index <= first) | (index > last)


def _before(values, fill):
    """The value of the token before."""
    return tf.concat([tf.fill([tf.minimum(tf.size(values), 1)], fill), values[:-1]], axis=0)


def _after(values, fill):
    return tf.concat([values[1:], tf.fill([tf.minimum(tf.size(values), 1)], fill)], axis=0)
