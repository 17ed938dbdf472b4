"""Homographies from matches, beside OpenCV's RANSAC."""

import numpy as np
import pytest
import tensorflow as tf

from lingxi.images import corner_errors, estimate, random_homography, through

cv2 = pytest.importorskip("cv2")
pytestmark = pytest.mark.parity


def test_the_estimate_is_as_good_as_that_of_opencv():
    ours, theirs = [], []
    for number in range(20):
        true = random_homography(tf.constant([number, 0]), 240, 320).numpy().astype("float64")
        random = np.random.default_rng(number)
        a = random.random((120, 2)) * (320, 240)
        b = through(true[np.newaxis], a[np.newaxis]).numpy()[0] + random.normal(0, 0.7, a.shape)
        b[:60] = random.random((60, 2)) * (320, 240)  # half of the matches are wrong
        ours.append(corner_errors(true, estimate(a, b)[0], 320, 240))
        theirs.append(corner_errors(true, cv2.findHomography(a, b, cv2.RANSAC, 3.0)[0], 320, 240))
    assert np.median(ours) <= 1.1 * np.median(theirs)
    assert np.max(ours) <= max(5.0, np.max(theirs))
