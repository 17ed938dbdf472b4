"""Homographies move points and pictures alike, and points tell them."""

import numpy as np
import tensorflow as tf

from lingxi.images import corner_errors, estimate, random_homography, through, warped

TRUE = np.array([[0.9, -0.2, 30.0], [0.15, 1.1, -12.0], [4e-4, -2e-4, 1.0]])


def points(count, seed=0):
    return np.random.default_rng(seed).random((count, 2)) * (320, 240)


def seen(homography, places):
    return through(homography[np.newaxis], places[np.newaxis]).numpy()[0]


def test_four_exact_matches_tell_the_homography():
    a = np.array([[0, 0], [319, 10], [300, 239], [5, 200]], float)
    found, inside = estimate(a, seen(TRUE, a))
    np.testing.assert_allclose(found, TRUE, atol=1e-6)
    assert inside.all()


def test_most_matches_may_be_wrong():
    a = points(300)
    b = seen(TRUE, a) + np.random.default_rng(1).normal(0, 0.5, a.shape)
    b[:180] = points(180, seed=2)
    found, inside = estimate(a, b)
    assert corner_errors(TRUE, found, 320, 240) < 1.0
    assert inside[180:].mean() > 0.98
    assert inside[:180].mean() < 0.1


def test_no_homography_is_told_by_few_or_by_equal_points():
    assert estimate(points(3), points(3))[0] is None
    assert estimate(np.zeros((0, 2)), np.zeros((0, 2)))[1].shape == (0,)
    found, _ = estimate(np.ones((20, 2)), points(20))
    assert found is None or np.isfinite(found).all()


def test_a_homography_is_the_same_every_time():
    a, b = points(50), points(50, seed=3)
    b[:20] = seen(TRUE, a[:20])
    np.testing.assert_array_equal(estimate(a, b)[0], estimate(a, b)[0])


def test_a_random_homography_keeps_to_its_strength():
    still = random_homography(tf.constant([1, 2]), 240, 320, strength=0.0)
    np.testing.assert_allclose(still / still[2, 2], np.eye(3), atol=1e-6)
    for number in range(20):
        change = random_homography(tf.constant([number, 2]), 240, 320).numpy()
        middle = seen(change, np.array([[159.5, 119.5]], "float32"))[0]
        assert (abs(middle - (159.5, 119.5)) < 0.21 * 320).all()
        corners = np.array([[0, 0], [319, 0], [319, 239], [0, 239]], float)
        assert (change[2] @ np.c_[corners, np.ones(4)].T > 0.5).all()  # all before the eye


def test_a_picture_is_seen_where_its_points_are():
    image = np.zeros((1, 60, 80, 1), "float32")
    image[0, 20, 30] = 1.0
    homography = np.array([[[1, 0, 7], [0, 1, -4], [0, 0, 1]]], "float32")  # result to image
    moved = warped(image, homography, 60, 80).numpy()[0, ..., 0]
    assert np.unravel_index(moved.argmax(), moved.shape) == (24, 23)
