"""Dual softmax, mutual nearest neighbours, borders, windows, expectations, places in images."""

import numpy as np
import pytest

from lingxi import layers
from lingxi.layers.gather import pick
from tests.layers.reference import numpy, random, softmax

A, B = random(2, 7, 4, seed=1), random(2, 5, 4, seed=2)
MASK_A = np.array([[1, 1, 1, 1, 1, 0, 0], [1, 0, 1, 1, 1, 1, 1]], bool)
MASK_B = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
MASKS = {"all real": (None, None), "padded": (MASK_A, MASK_B), "one padded": (None, MASK_B)}
each_mask = pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)


def confidence_of(a, b, temperature, mask_a, mask_b):
    similarity = a.astype("float64") @ b.swapaxes(1, 2) / (a.shape[-1] * temperature)
    mask_a = np.ones(a.shape[:2], bool) if mask_a is None else mask_a
    mask_b = np.ones(b.shape[:2], bool) if mask_b is None else mask_b
    valid = mask_a[:, :, np.newaxis] & mask_b[:, np.newaxis]
    similarity = np.where(valid, similarity, -1e9)
    return softmax(similarity) * softmax(similarity.swapaxes(1, 2)).swapaxes(1, 2) * valid


@each_mask
def test_the_confidence_is_the_product_of_two_softmaxes(masks):
    got = numpy(layers.dual_softmax(A, B, 0.1, *masks))
    np.testing.assert_allclose(got, confidence_of(A, B, 0.1, *masks), atol=1e-6)


def test_a_pair_without_any_real_cell_has_no_confidence():
    nothing = np.zeros_like(MASK_A)
    assert not numpy(layers.dual_softmax(A, B, 0.1, nothing, MASK_B)).any()


def test_mutual_neighbours_are_the_best_of_each_other():
    confidence = np.array([[[0.5, 0.1, 0.0], [0.6, 0.2, 0.0], [0.1, 0.3, 0.2]]], "float32")
    nearest, best, is_mutual = layers.mutual_nearest(confidence)
    assert numpy(nearest).tolist() == [[0, 0, 1]]
    np.testing.assert_allclose(numpy(best), [[0.5, 0.6, 0.3]])
    assert numpy(is_mutual).tolist() == [[False, True, True]]


@each_mask
@pytest.mark.parametrize("values", [1, 15, 34, 10**6], ids="blocks of {} values".format)
def test_in_blocks_the_neighbours_are_the_same(values, masks):
    wanted = layers.mutual_nearest(layers.dual_softmax(A, B, 0.1, *masks))
    got = layers.mutual_nearest_blockwise(A, B, 0.1, *masks, values=values)
    real = np.ones_like(MASK_A) if masks[0] is None else MASK_A
    np.testing.assert_array_equal(numpy(got[0])[real], numpy(wanted[0])[real])
    np.testing.assert_allclose(numpy(got[1]), numpy(wanted[1]), atol=1e-6)
    np.testing.assert_array_equal(numpy(got[2])[real], numpy(wanted[2])[real])


def test_cells_near_the_edge_or_padding_are_outside():
    mask = np.ones((2, 5, 6), bool)
    mask[1, :, 4:] = False
    got = numpy(layers.inside_border(mask, 1)).reshape(mask.shape)
    wanted = np.zeros_like(mask)
    wanted[0, 1:4, 1:5] = wanted[1, 1:4, 1:3] = True
    np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(numpy(layers.inside_border(mask, 0)).reshape(mask.shape), mask)
    assert not numpy(layers.inside_border(mask, 3)).any()


def test_rows_are_picked_within_each_example():
    got = numpy(pick(A, np.array([[6, 0], [1, 1]], "int32")))
    np.testing.assert_array_equal(got, np.stack([A[0, [6, 0]], A[1, [1, 1]]]))


def test_windows_are_centred_on_the_coarse_cells_and_zero_beyond_the_map():
    features = random(2, 8, 12, 3)
    cells = np.array([[0, 5, 3], [1, 2, 4]], "int32")  # of 2 rows and 3 columns
    got = numpy(layers.windows_2d(features, cells, 5, 4))
    padded = np.pad(features, ((0, 0), (2, 2), (2, 2), (0, 0)))
    for example in range(2):
        for place, cell in enumerate(cells[example]):
            row, column = 4 * (cell // 3), 4 * (cell % 3)
            window = padded[example, row : row + 5, column : column + 5].reshape(25, 3)
            np.testing.assert_array_equal(got[example, place], window)


def test_the_expectation_is_the_mean_place_and_its_deviation():
    weights = np.zeros((3, 25), "float32")
    weights[0, 2 * 5 + 4] = 1.0  # two to the right
    weights[1, 0] = weights[1, 20] = 0.5  # left column, first and last row
    weights[2] = 1 / 25
    mean, deviation = (numpy(part) for part in layers.expectation_2d(weights))
    np.testing.assert_allclose(mean, [[2, 0], [-2, 0], [0, 0]], atol=1e-6)
    np.testing.assert_allclose(deviation, [0, 2, 2 * np.sqrt(2)], atol=1e-4)


@pytest.mark.parametrize("slip", [False, True])
def test_places_are_sines_and_cosines_of_column_and_row(slip):
    table = numpy(layers.SinusoidalPosition2D(8, slip)(np.zeros((2, 3, 5, 1), "float32")))
    assert table.shape == (1, 3, 5, 8)
    for pair in range(2):
        omega = np.exp(-2.0 * pair) if slip else 10000.0 ** (-4 * pair / 8)
        x, y = omega * np.arange(1, 6), omega * np.arange(1, 4)[:, np.newaxis]
        waves = np.stack(np.broadcast_arrays(np.sin(x), np.cos(x), np.sin(y), np.cos(y)), axis=-1)
        np.testing.assert_allclose(table[0, :, :, 4 * pair : 4 * pair + 4], waves, atol=1e-6)


def test_places_need_four_channels_for_each_frequency():
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        layers.SinusoidalPosition2D(6)
