"""Losses and metrics of matching two pictures of which the homography is known.

Points are (x, y) in pixels. A grid of coarse cells is `(rows, columns, stride)`, and a cell stands
for the pixel at `stride` times its column and row. Homographies are float32 `[batch, 3, 3]`, from
the first picture to the second.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from lingxi.images.homography import corner_errors, estimate
from lingxi.layers.gather import pick

TINY = 1e-12


def true_matches(homographies, grid_a, grid_b, mask_a=None, mask_b=None):
    """Which coarse cells belong together: they are nearest to each other, seen both ways.

    Args:
        homographies: `[batch, 3, 3]`.
        grid_a, grid_b: of the two pictures.
        mask_a, mask_b: bool `[batch, rows, columns]`, cells that show the picture.

    Returns:
        Of every cell of the first picture, `[batch, cells]`: `cells_b` int32, its cell of the
        second; `offsets` float32 `[batch, cells, 2]`, pixels from that cell to the true place;
        `is_match` bool, whether there is one.
    """
    centres_a, centres_b = _centres(grid_a), _centres(grid_b)
    seen, in_front = _through(homographies, centres_a)
    back, _ = _through(ops.linalg.inv(homographies), centres_b)
    cells_b, in_b = _cells(seen, grid_b)
    cells_a, in_a = _cells(back, grid_a)
    if mask_a is not None:
        in_a = in_a & pick(_flat(mask_a), cells_a)
    if mask_b is not None:
        in_b = in_b & pick(_flat(mask_b), cells_b)
    own = ops.expand_dims(ops.arange(grid_a[0] * grid_a[1]), 0)
    is_mutual = ops.equal(pick(cells_a, cells_b), own) & pick(in_a, cells_b)
    nearest = ops.take(ops.convert_to_tensor(centres_b), cells_b, axis=0)
    return cells_b, seen - nearest, is_mutual & in_b & in_front


def coarse_loss(confidence, cells_b, is_match, alpha=0.25, gamma=2.0):
    """`−α (1 − p)^γ log p`, the mean over the true matches of the batch.

    Lin et al. 2017 and equation 4 of Sun et al. 2021. The two softmaxes push down whatever is no
    match.

    Args:
        confidence: `[batch, cells of A, cells of B]`.
        cells_b, is_match: `[batch, cells of A]`, as of `true_matches`.
    """
    confidence = ops.cast(confidence, "float32")
    p = ops.take_along_axis(confidence, ops.expand_dims(cells_b, 2), axis=2)[..., 0]
    losses = -alpha * (1.0 - p) ** gamma * ops.log(ops.maximum(p, TINY))
    return _mean(losses, is_match)


def fine_loss(offset, std, target, is_match):
    """`‖offset − target‖² / σ²`, equation 5 of Sun et al. 2021, the mean over the batch.

    The weights `1 / σ`, of which no gradient is taken, have a mean of 1.

    Args:
        offset, target: `[batch, matches, 2]`, in the same unit.
        std: `[batch, matches]`, of the heatmap that `offset` is the mean of.
        is_match: bool `[batch, matches]`, those to learn from.
    """
    certainty = 1.0 / ops.maximum(ops.cast(ops.stop_gradient(std), "float32"), 1e-10)
    certainty = certainty / ops.maximum(_mean(certainty, is_match), TINY)
    squares = ops.sum(ops.square(ops.cast(offset, "float32") - target), axis=-1)
    return _mean(certainty * squares, is_match)


@keras.saving.register_keras_serializable(package="lingxi")
class MatchPrecision(keras.metrics.Mean):
    """The share of all matches that are within `pixels` of the true place; 0 without a match."""

    def __init__(self, pixels, name=None, **kwargs):
        super().__init__(name=name or f"precision_{pixels}px", **kwargs)
        self.pixels = pixels

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Homographies, and the answers of a matcher."""
        is_right = _errors(y_true, y_pred) < self.pixels
        super().update_state(is_right, y_pred["is_match"])

    def get_config(self):
        return {**super().get_config(), "pixels": self.pixels}


@keras.saving.register_keras_serializable(package="lingxi")
class HomographyAuc(keras.metrics.Metric):
    """How near the homographies that the matches tell are to the true ones.

    A pair's error is the mean distance of where both take the corners of the first picture, and
    `result`, a dict, has the area under the curve of these errors up to each threshold, as
    "auc_3px" and so on: 1 is perfect. A pair without a homography counts as infinitely wrong. On
    the TensorFlow backend.
    """

    def __init__(self, thresholds=(3, 5, 10), name="auc", **kwargs):
        super().__init__(name=name, **kwargs)
        self.thresholds = tuple(thresholds)
        count = len(self.thresholds)
        self.areas = self.add_weight(shape=(count,), initializer="zeros", name="areas")
        self.pairs = self.add_weight(shape=(), initializer="zeros", name="pairs")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Homographies, and the answers of a matcher with `grid_a`."""
        rows, columns, stride = y_pred["grid_a"]

        def areas(homographies, points_a, points_b, is_match):
            errors = []
            for true, a, b, real in zip(homographies, points_a, points_b, is_match, strict=True):
                found, _ = estimate(a[real], b[real])
                width, height = stride * columns, stride * rows
                errors.append(
                    np.inf if found is None else corner_errors(true, found, width, height)
                )
            areas = [len(errors) * area_under_curve(errors, t) for t in self.thresholds]
            return np.float32(areas)

        answers = [y_pred[name] for name in ("points_a", "points_b", "is_match")]
        found = tf.numpy_function(areas, [y_true, *answers], tf.float32, stateful=False)
        self.areas.assign_add(tf.ensure_shape(found, self.areas.shape))
        self.pairs.assign_add(tf.cast(tf.shape(y_true)[0], "float32"))

    def result(self):
        areas = self.areas / ops.maximum(self.pairs, 1.0)
        return {f"auc_{t}px": areas[i] for i, t in enumerate(self.thresholds)}

    def get_config(self):
        return {**super().get_config(), "thresholds": self.thresholds}


@keras.saving.register_keras_serializable(package="lingxi")
class MatchingScore(keras.metrics.Mean):
    """Matches within `pixels` of the true place, for each cell of A whose place is seen in B."""

    def __init__(self, pixels=3, name="matching_score", **kwargs):
        super().__init__(name=name, **kwargs)
        self.pixels = pixels

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Homographies, and the answers of a matcher with `grid_a` and `grid_b`."""
        *_, is_match = true_matches(
            y_true, y_pred["grid_a"], y_pred["grid_b"], y_pred.get("mask_a"), y_pred.get("mask_b")
        )
        is_right = (_errors(y_true, y_pred) < self.pixels) & y_pred["is_match"]
        right = ops.sum(ops.cast(is_right, "float32"))
        possible = ops.sum(ops.cast(is_match, "float32"))
        super().update_state(right / ops.maximum(possible, 1.0), possible)

    def get_config(self):
        return {**super().get_config(), "pixels": self.pixels}


def area_under_curve(errors, threshold):
    """The area under the share of errors up to e, for e from 0 to `threshold`, over `threshold`.

    Its exact value, the mean of `max(0, 1 − error / threshold)`.
    """
    errors = np.nan_to_num(np.asarray(errors, float), nan=np.inf, posinf=np.inf)
    return float(np.maximum(0.0, 1.0 - errors / threshold).mean()) if errors.size else 0.0


def _errors(homographies, matches):
    """Pixels between the true places and those found: `[batch, matches]`."""
    true, in_front = _through(homographies, matches["points_a"])
    distances = ops.norm(matches["points_b"] - true, axis=-1)
    return ops.where(in_front, distances, np.inf)


def _centres(grid):
    """Pixels of all cells, row by row: NumPy `[cells, 2]`."""
    rows, columns, stride = grid
    y, x = np.mgrid[:rows, :columns]
    return stride * np.stack([x, y], axis=-1).reshape(-1, 2).astype("float32")  # [cells, 2]


def _through(homographies, points):
    """Points `[(batch,) points, 2]` through homographies, and whether they lie before the eye."""
    points = ops.convert_to_tensor(points)
    points = ops.concatenate([points, ops.ones_like(points[..., :1])], axis=-1)
    seen = ops.matmul(points, ops.transpose(homographies, (0, 2, 1)))  # [batch, points, 3]
    depth = seen[..., 2:]
    in_front = depth > TINY
    return seen[..., :2] / ops.where(in_front, depth, 1.0), in_front[..., 0]


def _cells(points, grid):
    """The nearest cell `[batch, points]`, and whether there is one."""
    rows, columns, stride = grid
    place = ops.round(points / stride)
    x, y = place[..., 0], place[..., 1]
    inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    cells = ops.cast(ops.where(inside, y * columns + x, 0.0), "int32")
    return cells, inside


def _flat(masks):
    batch, rows, columns = ops.shape(masks)
    return ops.reshape(masks, (batch, rows * columns))


def _mean(values, where):
    weights = ops.cast(where, values.dtype)
    return ops.sum(values * weights) / ops.maximum(ops.sum(weights), 1.0)
