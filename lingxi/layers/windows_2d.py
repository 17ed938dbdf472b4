"""Square windows of a feature map, and where in one a distribution lies (LoFTR, section 3.4)."""

import numpy as np
from keras import ops

from lingxi.layers.gather import pick


def windows_2d(features, cells, size, stride):
    """The windows around some cells of a coarser grid.

    Cell (row, column) of that grid stands on (`stride` · row, `stride` · column) of the map.

    Args:
        features: `[batch, height, width, dim]`.
        cells: int `[batch, n]`, row · (width / stride) + column.
        size: odd side of the windows.
        stride: of the grid, in places of the map.

    Returns:
        `[batch, n, size², dim]`, row by row; zeros beyond the map.
    """
    batch, height, width, dim = ops.shape(features)
    half = size // 2
    padded = ops.pad(features, ((0, 0), (half, half), (half, half), (0, 0)))
    padded_width = width + 2 * half
    places = ops.reshape(padded, (batch, (height + 2 * half) * padded_width, dim))

    columns = width // stride
    corner = (cells // columns) * stride * padded_width + (cells % columns) * stride  # [batch, n]
    steps = ops.arange(size, dtype="int32")
    steps = ops.reshape(ops.expand_dims(steps, 1) * padded_width + steps, (1, 1, size * size))
    index = ops.expand_dims(ops.cast(corner, "int32"), -1) + steps  # [batch, n, size²]
    windows = pick(places, ops.reshape(index, (batch, -1)))
    return ops.reshape(windows, (batch, -1, size * size, dim))


def expectation_2d(weights):
    """Where a distribution over a square window lies, and how wide it is.

    Args:
        weights: `[…, size²]`, row by row, with sum 1.

    Returns:
        The mean `[…, 2]`, (x, y) from the centre of the window, and the sum of the standard
        deviations of x and y, `[…]`; both in places of the window.
    """
    size = round(weights.shape[-1] ** 0.5)
    row, column = np.divmod(np.arange(size * size), size)
    place = np.stack([column, row], axis=-1).astype("float32") - size // 2  # [size², 2]
    mean = ops.matmul(weights, place)
    variance = ops.matmul(weights, np.square(place)) - ops.square(mean)
    return mean, ops.sum(ops.sqrt(ops.maximum(variance, 1e-10)), axis=-1)
