"""Views, frames and data sets: what is seen at a place of A is at its place in B."""

import numpy as np
import pytest
import tensorflow as tf

from lingxi.images import batches_of_pairs, batches_of_views, photometric, textures, views, warped
from lingxi.images.framing import cell_masks, framed, shrunk, unscaled


@pytest.fixture(scope="module")
def clouds():
    return textures(1, 200, 260, seed=3)[0]


def test_two_views_show_the_same_through_their_homography(clouds):
    for number in range(6):
        inputs, homography = views(clouds, [number, 5], 96, 128, strength=0.3)
        a, b = inputs["image_a"], inputs["image_b"]
        assert a.shape == b.shape == (96, 128, 1)
        back = warped(b[tf.newaxis], homography[tf.newaxis], 96, 128).numpy()[0, 24:72, 32:96, 0]
        a = a.numpy()[24:72, 32:96, 0]
        assert np.corrcoef(a.ravel(), back.ravel())[0, 1] > 0.9


def test_views_follow_from_their_seed(clouds):
    first, again, other = (views(clouds, [n, 0], 64, 64)[0]["image_a"].numpy() for n in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_a_small_picture_is_enlarged():
    inputs, _ = views(
        np.random.default_rng(0).random((20, 30, 1)).astype("float32"), [0, 0], 64, 96
    )
    assert inputs["image_a"].shape == (64, 96, 1)


def test_light_keeps_to_the_range_and_to_its_strength(clouds):
    np.testing.assert_allclose(photometric(clouds, [1, 1], strength=0.0), clouds, atol=1e-5)
    lit = photometric(clouds, [1, 1], strength=1.0).numpy()
    assert lit.min() >= 0.0 and lit.max() <= 1.0
    assert np.abs(lit - clouds).max() > 0.05


def test_a_data_set_for_training_has_no_end_and_one_for_validation_repeats_itself(clouds):
    training = batches_of_views([clouds] * 3, (32, 48), 2, repeat=True, seed=0)
    shapes = [inputs["image_b"].shape for inputs, _ in training.take(5)]
    assert shapes == [(2, 32, 48, 1)] * 5
    held_out = batches_of_views([clouds] * 3, (32, 48), 2, seed=0)
    first, second = ([inputs["image_a"].numpy() for inputs, _ in held_out] for _ in range(2))
    assert [len(batch) for batch in first] == [2, 1]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_pairs_are_framed_and_their_homographies_with_them(clouds):
    small = tf.image.resize(clouds, [100, 130]).numpy()
    halved = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]], "float32")
    ((inputs, homographies),) = batches_of_pairs([(clouds, small)], [halved], (64, 72), 1)
    assert inputs["image_a"].shape == (1, 64, 72, 1)
    # 200 × 260 and 100 × 130 both become 55 × 72, and so the homography is no change
    np.testing.assert_allclose(homographies[0], np.eye(3), atol=1e-4)
    assert inputs["mask_a"].numpy().sum() == 7 * 9
    assert inputs["image_a"].numpy()[0, 55:].max() == 0.0


def test_places_in_a_shrunk_picture_are_those_of_the_picture():
    ramp = np.broadcast_to(np.arange(40, dtype="float32")[np.newaxis, :, np.newaxis], (30, 40, 1))
    small, scale = shrunk(ramp, 15, 20)
    assert small.shape == (15, 20, 1)
    # the ramp has its own column as its value
    place = unscaled(tf.constant([[[7.0, 3.0]]]), scale[tf.newaxis])[0, 0, 0]
    assert float(place) == pytest.approx(float(small[3, 7, 0]), abs=1e-4)


def test_a_frame_never_enlarges():
    frame, size, scale = framed(np.ones((20, 24, 1), "float32"), 32, 40)
    assert frame.shape == (32, 40, 1)
    np.testing.assert_array_equal(size, [20, 24])
    np.testing.assert_array_equal(scale, [1, 1])
    mask = cell_masks(size[tf.newaxis], 32, 40)
    np.testing.assert_array_equal(mask[0], np.outer([1, 1, 1, 0], [1, 1, 1, 0, 0]).astype(bool))


def test_textures_are_of_several_kinds_and_follow_from_their_seed():
    first, again = textures(10, 40, 56, seed=4), textures(10, 40, 56, seed=4)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.shape == (40, 56, 1)
        assert a.min() == 0.0 and a.max() == 1.0
        assert a.std() > 0.05
