"""Embeddings against their tables and formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingxi.layers import (
    PositionEmbedding,
    SegmentEmbedding,
    SinusoidalPosition,
    TokenEmbedding,
    changed_embeddings,
    replaced_lookups,
)
from tests.layers.reference import QUICK, gradients, numpy, random

IDS = np.array([[1, 4, 0, 1], [3, 3, 2, 4]], "int32")


def table_of(layer):
    layer.build((None, None))
    table = random(*layer.embeddings.shape)
    layer.embeddings.assign(table)
    return table


def test_token_embedding_looks_rows_up():
    layer = TokenEmbedding(5, 6)
    table = table_of(layer)
    np.testing.assert_array_equal(numpy(layer(IDS)), table[IDS])


def test_token_embedding_attaches_no_keras_mask():
    outputs = TokenEmbedding(5, 6)(IDS)
    assert getattr(outputs, "_keras_mask", None) is None


def test_embeddings_are_changed_within_the_context_even_if_it_fails():
    layer = TokenEmbedding(5, 6)
    table = table_of(layer)

    def change(token_ids, embeddings):
        np.testing.assert_array_equal(numpy(token_ids), IDS)
        return embeddings * 2.0

    with changed_embeddings(change):
        np.testing.assert_array_equal(numpy(layer(IDS)), 2 * table[IDS])
        with pytest.raises(ZeroDivisionError), changed_embeddings(lambda *_: 1 / 0):
            layer(IDS)
        np.testing.assert_array_equal(numpy(layer(IDS)), 2 * table[IDS])
    np.testing.assert_array_equal(numpy(layer(IDS)), table[IDS])


def test_lookups_of_one_layer_are_replaced_within_the_context():
    layer, other = TokenEmbedding(5, 6), TokenEmbedding(5, 6)
    tables = table_of(layer), table_of(other)
    with replaced_lookups({layer: lambda token_ids: 3.0 * tables[0][numpy(token_ids)]}):
        np.testing.assert_array_equal(numpy(layer(IDS)), 3.0 * tables[0][IDS])
        np.testing.assert_array_equal(numpy(other(IDS)), tables[1][IDS])
    np.testing.assert_array_equal(numpy(layer(IDS)), tables[0][IDS])


@pytest.mark.parametrize("num_segments", [1, 2, 5])
def test_segment_embedding_looks_rows_up(num_segments):
    layer = SegmentEmbedding(num_segments, 6)
    table = table_of(layer)
    ids = IDS % num_segments
    np.testing.assert_allclose(numpy(layer(ids)), table[ids], atol=1e-7)


def test_the_gradient_of_a_segment_is_the_sum_over_its_tokens():
    layer = SegmentEmbedding(3, 2)
    table = table_of(layer)
    ids = np.array([[0, 1, 1], [1, 0, 1]], "int32")
    (gradient,) = gradients(layer, ids)
    counts = np.array([[2], [4], [0]])
    np.testing.assert_allclose(gradient, counts * 2 * table / 12, atol=1e-6)


@pytest.mark.parametrize("length", [1, 5, 7])
def test_position_embedding_is_the_first_rows(length):
    layer = PositionEmbedding(7, 6)
    table = table_of(layer)
    np.testing.assert_array_equal(
        numpy(layer(np.zeros((2, length), "int32"))), table[np.newaxis, :length]
    )


def test_position_embedding_looks_given_positions_up_behind_the_offset():
    layer = PositionEmbedding(7, 6, offset=2)
    table = table_of(layer)
    assert table.shape == (9, 6)
    np.testing.assert_array_equal(numpy(layer(np.zeros((2, 7), "int32"))), table[np.newaxis, 2:])
    positions = np.array([[-1, 0, 6], [3, 3, -2]], "int32")
    got = numpy(layer(np.zeros((2, 3), "int32"), positions))
    np.testing.assert_array_equal(got, table[positions + 2])


def test_too_many_positions_say_what_to_do():
    layer = PositionEmbedding(7, 6, offset=2)
    with pytest.raises(ValueError, match="8 positions, but this model knows only 7; shorten"):
        layer(np.zeros((2, 8), "int32"))


@settings(max_examples=2 if QUICK else 15)
@given(length=st.integers(1, 40), half=st.integers(1, 20), interleaved=st.booleans())
def test_sinusoids_are_the_formula(length, half, interleaved):
    width = 2 * half
    got = numpy(SinusoidalPosition(width, interleaved)(np.zeros((2, length, width), "float32")))
    angle = np.arange(length)[:, None] / 10000 ** (2 * np.arange(half) / width)
    wanted = np.concatenate([np.sin(angle), np.cos(angle)], axis=-1)
    if interleaved:
        wanted = np.empty((length, width))
        wanted[:, 0::2], wanted[:, 1::2] = np.sin(angle), np.cos(angle)
    assert got.shape == (1, length, width)
    np.testing.assert_allclose(got[0], wanted, rtol=0, atol=2e-6)


def test_sinusoids_of_far_positions_are_accurate():
    got = numpy(SinusoidalPosition(64)(np.zeros((1, 12001), "int32")))[0]
    angle = np.arange(12001)[:, np.newaxis] / 10000 ** (np.arange(0, 64, 2) / 64)
    np.testing.assert_allclose(got[:, 0::2], np.sin(angle), rtol=0, atol=2e-6)
    np.testing.assert_allclose(got[:, 1::2], np.cos(angle), rtol=0, atol=2e-6)


def test_sinusoids_have_an_even_width():
    with pytest.raises(ValueError, match="even, got 7"):
        SinusoidalPosition(7)
