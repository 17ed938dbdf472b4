"""Pictures of any size in frames of whole cells, as TensorFlow graph operations.

A pixel's place is its centre: the first one is at (0, 0).
"""

import tensorflow as tf

LEAST_CONTRAST = 1 / 512  # half a level of 8 bits


def shrunk(images, max_height, max_width):
    """Pictures `[…, height, width, 1]` as large as fits, never enlarged, and the scale.

    Returns:
        The pictures, and float32 `[2]`: new pixels for each old one, in x and y.
    """
    size = tf.cast(tf.shape(images)[-3:-1], tf.float32)  # height, width
    limit = tf.cast([max_height, max_width], tf.float32)
    scale = tf.minimum(tf.reduce_min(limit / size), 1.0)
    new_size = tf.maximum(tf.round(size * scale), 1.0)
    images = tf.image.resize(images, tf.cast(new_size, tf.int32), antialias=True)
    return images, tf.reverse(new_size / size, [0])


def padded(images, height, width):
    """Zeros to the right of pictures `[…, h, w, 1]` and below them: `[…, height, width, 1]`."""
    size = tf.shape(images)[-3:-1]
    margins = [[0, 0]] * (images.shape.rank - 3)
    return tf.pad(images, [*margins, [0, height - size[0]], [0, width - size[1]], [0, 0]])


def framed(image, height, width):
    """One picture `[h, w, 1]` in the upper left of a frame, shrunk where it does not fit.

    Returns:
        float32 `[height, width, 1]`; the size of the picture in it, int32 `[2]`; and the scale, as
        of `shrunk`.
    """
    image, scale = shrunk(image, height, width)
    return padded(image, height, width), tf.shape(image)[:2], scale


def whole_cells(pixels, stride):
    """The next multiple of `stride`."""
    return -(-pixels // stride) * stride


def cell_masks(sizes, height, width, stride=8):
    """Which cells of a frame show the picture.

    Args:
        sizes: int32 `[batch, 2]`, height and width of each picture.
        height, width: of the frame, multiples of `stride`.
        stride: pixels on the side of a cell.

    Returns:
        bool `[batch, height / stride, width / stride]`.
    """
    rows = tf.range(0, height, stride)
    columns = tf.range(0, width, stride)
    is_row = tf.expand_dims(rows, 0) < tf.expand_dims(sizes[:, 0], 1)  # [batch, rows]
    is_column = tf.expand_dims(columns, 0) < tf.expand_dims(sizes[:, 1], 1)
    return tf.logical_and(tf.expand_dims(is_row, 2), tf.expand_dims(is_column, 1))


def has_contrast(images, sizes):
    """Whether the pixels of a picture differ: bool `[batch, 1, 1]`, without its padding.

    Args:
        images: `[batch, height, width, 1]`.
        sizes: as of `cell_masks`.
    """
    _, height, width, _ = images.shape
    height, width = height or tf.shape(images)[1], width or tf.shape(images)[2]
    shown = cell_masks(sizes, height, width, stride=1)
    values = tf.squeeze(images, -1)
    brightest = tf.reduce_max(tf.where(shown, values, 0.0), axis=[1, 2], keepdims=True)
    darkest = tf.reduce_min(tf.where(shown, values, 1.0), axis=[1, 2], keepdims=True)
    return brightest - darkest > LEAST_CONTRAST


def unscaled(points, scales):
    """Places `[batch, points, 2]` in shrunk pictures as places in the pictures themselves.

    Args:
        scales: `[batch, 2]`, as of `shrunk`.
    """
    return (points + 0.5) / tf.expand_dims(scales, 1) - 0.5


def scaling(scale):
    """The homography `[3, 3]` from a picture to its shrunk copy; `scale` as of `shrunk`."""
    x, y = tf.unstack(scale)
    shift = 0.5 * scale - 0.5
    return tf.convert_to_tensor([[x, 0.0, shift[0]], [0.0, y, shift[1]], [0.0, 0.0, 1.0]])
