"""Homographies: random ones, points and pictures seen through them, and the one that points tell.

A homography is `[3, 3]` and maps `(x, y, 1)` to a multiple of `(x', y', 1)`.
"""

import math

import numpy as np
import tensorflow as tf


def random_homography(seed, height, width, strength=1.0):
    """A change of view about the middle of a picture, float32 `[3, 3]`, in the graph.

    Args:
        seed: int32 `[2]`.
        height, width: of the picture.
        strength: 1 turns by up to 30°, zooms by up to 1.5 either way, stretches by 1.2, shears by
            0.2, shifts by a fifth of the picture and tilts by 0.3; 0 changes nothing.
    """
    draws = strength * tf.random.stateless_uniform([8], seed, -1.0, 1.0)
    angle, zoom, stretch, shear, x, y, tilt_x, tilt_y = tf.unstack(draws)
    angle, zoom, stretch = angle * math.pi / 6, tf.pow(1.5, zoom), tf.pow(1.2, stretch)
    zero, one = tf.zeros([]), tf.ones([])
    cos, sin = tf.cos(angle), tf.sin(angle)

    turn = [[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]]
    scale = [[zoom * stretch, 0.2 * shear, zero], [zero, zoom / stretch, zero], [zero, zero, one]]
    tilt = [[one, zero, zero], [zero, one, zero], [0.3 * tilt_x, 0.3 * tilt_y, one]]
    shift = [[one, zero, 0.2 * x], [zero, one, 0.2 * y], [zero, zero, one]]
    # In units of the longer side, from the middle of the picture.
    unit = float(max(height, width))
    middle = [
        [1.0 / unit, 0.0, -width / 2 / unit],
        [0.0, 1.0 / unit, -height / 2 / unit],
        [0, 0, 1],
    ]
    change = tf.eye(3)
    for step in (middle, tilt, scale, turn, shift, np.linalg.inv(middle).tolist()):
        change = tf.matmul(tf.convert_to_tensor(step, tf.float32), change)
    return change


def through(homographies, points):
    """Points `[batch, points, 2]` through `[batch, 3, 3]`, of TensorFlow or NumPy."""
    homographies, points = tf.convert_to_tensor(homographies), tf.convert_to_tensor(points)
    ones = tf.ones_like(points[..., :1])
    seen = tf.matmul(tf.concat([points, ones], axis=-1), homographies, transpose_b=True)
    return seen[..., :2] / seen[..., 2:]


def warped(images, homographies, height, width):
    """What `images` look like where each pixel of the result shows that to which it is mapped.

    Args:
        images: `[batch, h, w, 1]`; beyond its edge a picture is mirrored.
        homographies: `[batch, 3, 3]`, from pixels of the result to pixels of the images.

    Returns:
        `[batch, height, width, 1]`, by bilinear interpolation.
    """
    homographies = homographies / homographies[:, 2:, 2:]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.reshape(homographies, [-1, 9])[:, :8],
        output_shape=[height, width],
        interpolation="BILINEAR",
        fill_mode="REFLECT",
        fill_value=0.0,
    )


def estimate(points_a, points_b, threshold=3.0, trials=2000, seed=0):
    """The homography from A to B that most matches tell: RANSAC, then least squares.

    Four matches at a time give a homography (Hartley & Zisserman 2004, algorithm 4.2). The best of
    them, by the sum of squared errors cut off at `threshold` (MSAC, Torr & Zisserman 2000), is
    fitted anew to all matches within the threshold until these stay the same.

    Args:
        points_a, points_b: NumPy `[matches, 2]`.
        threshold: pixels of B.
        trials: fours of matches.
        seed: of their choice.

    Returns:
        float64 `[3, 3]`, with 1 in the corner, and bool `[matches]`, those within the threshold.
        None and all False where fewer than four matches agree.
    """
    points_a, points_b = (np.asarray(points, "float64") for points in (points_a, points_b))
    count = len(points_a)
    nothing = None, np.zeros(count, bool)
    if count < 4:
        return nothing
    rows = np.random.default_rng(seed).random((trials, count)).argpartition(3, axis=1)[:, :4]
    candidates = _fitted(points_a[rows], points_b[rows])  # [trials, 3, 3]
    costs = np.minimum(_squared_errors(candidates, points_a, points_b), threshold**2).sum(axis=1)
    best = candidates[costs.argmin()]
    inside = np.zeros(count, bool)
    for _ in range(10):
        previous, inside = inside, _squared_errors(best, points_a, points_b) < threshold**2
        if inside.sum() < 4 or np.array_equal(previous, inside):
            break
        best = _fitted(points_a[inside], points_b[inside])
    if inside.sum() < 4 or abs(best[2, 2]) < 1e-12 * np.abs(best).max():
        return nothing
    return best / best[2, 2], inside


def corner_errors(expected, found, width, height):
    """Mean distance, in pixels, of where two homographies take the corners of a picture."""
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], float)
    ends = [_seen(np.asarray(homography, float), corners) for homography in (expected, found)]
    return float(np.linalg.norm(ends[0] - ends[1], axis=-1).mean())


def _fitted(points_a, points_b):
    """Least squares of `b × H a = 0` for `[…, matches, 2]`, normalized: `[…, 3, 3]`."""
    (points_a, to_a), (points_b, to_b) = _normalized(points_a), _normalized(points_b)
    a = np.concatenate([points_a, np.ones_like(points_a[..., :1])], axis=-1)
    zeros = np.zeros_like(a)
    x, y = points_b[..., :1], points_b[..., 1:]
    equations = np.concatenate(
        [
            np.concatenate([a, zeros, -x * a], axis=-1),
            np.concatenate([zeros, a, -y * a], axis=-1),
        ],
        axis=-2,
    )  # [..., 2 matches, 9]
    moments = np.swapaxes(equations, -1, -2) @ equations
    _, vectors = np.linalg.eigh(moments)  # the first belongs to the least eigenvalue
    homography = vectors[..., :, 0].reshape(*vectors.shape[:-2], 3, 3)
    return np.linalg.inv(to_b) @ homography @ to_a


def _normalized(points):
    """Points about their mean at a mean distance of √2, and the transformation to them."""
    mean = points.mean(axis=-2, keepdims=True)
    spread = np.linalg.norm(points - mean, axis=-1).mean(axis=-1)
    scale = np.sqrt(2.0) / np.maximum(spread, 1e-9)
    transformation = np.zeros((*scale.shape, 3, 3))
    transformation[..., 0, 0] = transformation[..., 1, 1] = scale
    transformation[..., :2, 2] = -scale[..., np.newaxis] * mean[..., 0, :]
    transformation[..., 2, 2] = 1.0
    return (points - mean) * scale[..., np.newaxis, np.newaxis], transformation


def _seen(homographies, points):
    seen = np.concatenate([points, np.ones_like(points[..., :1])], axis=-1)
    seen = seen @ np.swapaxes(homographies, -1, -2)
    depth = seen[..., 2:]
    return seen[..., :2] / np.where(np.abs(depth) < 1e-12, 1e-12, depth)


def _squared_errors(homographies, points_a, points_b):
    """`[…, matches]` of homographies `[…, 3, 3]`."""
    return np.square(_seen(homographies, points_a) - points_b).sum(axis=-1)
