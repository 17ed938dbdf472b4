"""Packing: special tokens, truncation, segments, padding."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from lingxi.text.packing import Template, pack, truncated_lengths

BERT = dict(template=Template((1,), (2,), (2,)), pad_id=0, with_segments=True)


def packed(first, second=None, max_length=8, pad_to_max_length=False):
    parts = [
        (tf.ragged.constant(rows, tf.int32, ragged_rank=1),)
        for rows in (first, second)
        if rows is not None
    ]
    result = pack(*parts, **BERT, max_length=max_length, pad_to_max_length=pad_to_max_length)
    return {name: tensor.numpy() for name, tensor in result.items()}


def expected(first, second, max_length, seq):
    """The same thing, one token at a time."""
    rows = {"token_ids": [], "segment_ids": [], "padding_mask": []}
    for i, a in enumerate(first):
        if second is None:
            ids = [1, *a[: max_length - 2], 2]
            segments = [0] * len(ids)
        else:
            a, b = list(a), list(second[i])
            first_is_longer = len(a) > len(b)
            while len(a) + len(b) > max_length - 3:
                # The longer gives way; of equals the one that was shorter at first.
                if len(a) > len(b) or (len(a) == len(b) and not first_is_longer):
                    a.pop()
                else:
                    b.pop()
            ids = [1, *a, 2, *b, 2]
            segments = [0] * (len(a) + 2) + [1] * (len(b) + 1)
        padding = [0] * (seq - len(ids))
        rows["token_ids"].append(ids + padding)
        rows["segment_ids"].append(segments + padding)
        rows["padding_mask"].append([True] * len(ids) + [False] * len(padding))
    return rows


rows_of_ids = st.lists(st.lists(st.integers(3, 99), max_size=9), min_size=1, max_size=4)


@settings(deadline=None, max_examples=100)
@given(rows_of_ids, rows_of_ids | st.none(), st.integers(3, 14), st.booleans())
def test_equals_the_plain_loop(first, second, max_length, pad_to_max_length):
    if second is not None:
        size = min(len(first), len(second))
        first, second = first[:size], second[:size]
    result = packed(first, second, max_length, pad_to_max_length)
    seq = max_length if pad_to_max_length else result["padding_mask"].sum(axis=1).max()
    wanted = expected(first, second, max_length, seq)
    for name in wanted:
        np.testing.assert_array_equal(result[name], wanted[name], err_msg=name)
    assert [result[name].dtype for name in wanted] == [np.int32, np.int32, bool]


@pytest.mark.parametrize(
    ("lengths", "budget", "wanted"),
    [
        ((2, 3), 5, (2, 3)),  # fits
        ((9, 2), 7, (5, 2)),  # only the longer is cut
        ((2, 9), 7, (2, 5)),
        ((9, 9), 7, (3, 4)),  # both: the second has the odd token …
        ((9, 8), 7, (4, 3)),  # … unless the first was longer
        ((5, 0), 0, (0, 0)),
        ((0, 5), 3, (0, 3)),
    ],
)
def test_truncates_the_longer_part_first(lengths, budget, wanted):
    first, second = truncated_lengths(*(tf.constant([n]) for n in lengths), budget)
    assert (int(first[0]), int(second[0])) == wanted


@pytest.mark.parametrize("seq", [2, 3])
def test_an_empty_batch_has_the_width_of_an_empty_text(seq):
    second = [] if seq == 3 else None
    assert packed([], second)["token_ids"].shape == (0, seq)


def test_rows_without_tokens():
    result = packed([[], []], [[], [5]])
    assert result["token_ids"].tolist() == [[1, 2, 2, 0], [1, 2, 5, 2]]
    assert result["segment_ids"].tolist() == [[0, 0, 1, 0], [0, 0, 1, 1]]


def test_the_length_is_static_when_padded_to_it():
    @tf.function(input_signature=[tf.RaggedTensorSpec([3, None], tf.int32)])
    def graph(tokens):
        result = pack((tokens,), **BERT, max_length=16, pad_to_max_length=True)
        assert {tuple(x.shape) for x in result.values()} == {(3, 16)}
        return result

    assert graph(tf.ragged.constant([[5], [], [6, 7]]))["token_ids"].shape == (3, 16)
