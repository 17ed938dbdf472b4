"""What counts as a match, what is lost, and what is measured."""

import numpy as np
import pytest

from lingxi.training import HomographyAuc, MatchingScore, MatchPrecision
from lingxi.training.matching import area_under_curve, coarse_loss, fine_loss, true_matches

GRID = (6, 8, 8)  # rows, columns, stride
NOTHING = np.eye(3, dtype="float32")[np.newaxis]


def moved(x, y):
    return np.array([[[1, 0, x], [0, 1, y], [0, 0, 1]]], "float32")


def by_hand(homography, grid_a, grid_b):
    """Cells that are nearest to each other both ways, one after the other."""

    def nearest(matrix, cell, grid_from, grid_to):
        row, column = divmod(cell, grid_from[1])
        x, y, w = matrix @ (column * 8.0, row * 8.0, 1.0)
        column, row = round(x / w / 8), round(y / w / 8)
        inside = w > 0 and 0 <= row < grid_to[0] and 0 <= column < grid_to[1]
        return row * grid_to[1] + column if inside else None

    inverse = np.linalg.inv(homography)
    found = {}
    for a in range(grid_a[0] * grid_a[1]):
        b = nearest(homography, a, grid_a, grid_b)
        if b is not None and nearest(inverse, b, grid_b, grid_a) == a:
            found[a] = b
    return found


def test_without_a_change_every_cell_is_its_own_match():
    cells, offsets, is_match = true_matches(NOTHING, GRID, GRID)
    np.testing.assert_array_equal(cells[0], np.arange(48))
    assert np.abs(offsets).max() == 0.0 and np.all(is_match)


def test_matches_are_mutual_and_their_offsets_are_pixels():
    random = np.random.default_rng(0)
    other = (5, 9, 8)
    for _ in range(10):
        change = np.eye(3) + random.normal(0, (0.2, 0.2, 9), (3, 3)) * ([1], [1], [0])
        change[2, :2] = random.normal(0, 2e-3, 2)
        cells, offsets, is_match = (
            np.array(part)[0]
            for part in true_matches(change[np.newaxis].astype("float32"), GRID, other)
        )
        expected = by_hand(change.astype("float32"), GRID, other)
        assert dict(zip(np.flatnonzero(is_match), cells[is_match], strict=True)) == expected
        for a in expected:
            x, y, w = change @ (8 * (a % 8), 8 * (a // 8), 1)
            place = 8 * np.array([cells[a] % 9, cells[a] // 9]) + offsets[a]
            np.testing.assert_allclose(place, [x / w, y / w], atol=1e-3)


def test_padding_matches_nothing():
    mask = np.ones((1, 6, 8), bool)
    mask[:, :, 5:] = False
    for masks in ((mask, None), (None, mask)):
        *_, is_match = true_matches(NOTHING, GRID, GRID, *masks)
        np.testing.assert_array_equal(np.reshape(is_match, (6, 8)), mask[0])


def test_the_losses_are_those_of_the_paper():
    confidence = np.array([[[0.7, 0.1], [0.2, 0.4]]], "float32")
    cells, is_match = np.array([[0, 1]], "int32"), np.array([[True, True]])
    expected = np.mean([-0.25 * (1 - p) ** 2 * np.log(p) for p in (0.7, 0.4)])
    assert float(coarse_loss(confidence, cells, is_match)) == pytest.approx(expected, rel=1e-5)
    one = np.array([[True, False]])
    alone = -0.25 * 0.3**2 * np.log(0.7)
    assert float(coarse_loss(confidence, cells, one)) == pytest.approx(alone, rel=1e-5)

    offset = np.array([[[0.5, 0.0], [0.0, 0.2]]], "float32")
    std = np.array([[0.1, 0.3]], "float32")  # weights 1.5 and 0.5
    expected = np.mean([1.5 * 0.25, 0.5 * 0.04])
    found = fine_loss(offset, std, np.zeros_like(offset), is_match)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_a_batch_without_a_match_costs_nothing():
    nothing = np.zeros((1, 2), bool)
    confidence = np.full((1, 2, 2), 0.5, "float32")
    assert float(coarse_loss(confidence, np.zeros((1, 2), "int32"), nothing)) == 0.0
    zeros = np.zeros((1, 2, 2), "float32")
    assert float(fine_loss(zeros, np.zeros((1, 2), "float32"), zeros, nothing)) == 0.0


@pytest.fixture
def found():
    """Four matches under a move of 16 px, of which one is 2 px off, one 50 px, and one not real."""
    points_a = np.array([[[8, 8], [16, 24], [32, 16], [8, 32]]], "float32")
    points_b = points_a + np.array([[[16, 0.5], [18, 0], [66, 0], [16, 0]]], "float32")
    return {
        "points_a": points_a,
        "points_b": points_b,
        "is_match": np.array([[True, True, True, False]]),
        "grid_a": GRID,
        "grid_b": GRID,
    }


def test_precision_and_matching_score_count_right_matches(found):
    for pixels, share in ((1, 1 / 3), (3, 2 / 3)):
        metric = MatchPrecision(pixels)
        metric.update_state(moved(16, 0), found)
        assert float(metric.result()) == pytest.approx(share)
    score = MatchingScore()
    score.update_state(moved(16, 0), found)
    assert float(score.result()) == pytest.approx(2 / 36)  # 6 × 6 cells are seen in both


def test_auc_is_of_the_corners_of_every_pair(found):
    metric = HomographyAuc()
    random = np.random.default_rng(0)
    points = 8.0 * np.stack(np.divmod(random.permutation(48), 8)[::-1], axis=-1)[np.newaxis]
    exact = {**found, "points_a": points.astype("float32"), "is_match": np.ones((1, 48), bool)}
    exact["points_b"] = exact["points_a"] + np.float32([17, 0])  # a pixel off everywhere
    metric.update_state(moved(16, 0), exact)
    one = {name: float(value) for name, value in metric.result().items()}
    assert one == pytest.approx({"auc_3px": 2 / 3, "auc_5px": 0.8, "auc_10px": 0.9}, abs=1e-3)
    metric.update_state(moved(16, 0), {**found, "is_match": np.zeros((1, 4), bool)})
    assert float(metric.result()["auc_10px"]) == pytest.approx(0.45, abs=1e-3)


def test_the_area_is_that_under_the_curve():
    errors = np.random.default_rng(0).exponential(6.0, 400)
    steps = np.linspace(0, 10, 100_001)
    curve = (errors[:, np.newaxis] <= steps[::1000]).mean(axis=0)
    area = np.trapezoid(curve, steps[::1000]) / 10
    assert area_under_curve(errors, 10) == pytest.approx(area, abs=1e-3)
    assert area_under_curve([np.inf, np.nan], 10) == 0.0
    assert area_under_curve([], 10) == 0.0
