"""Pictures from files, bytes, arrays and PIL, as grey numbers from 0 to 1."""

import os
import pathlib

import numpy as np
import tensorflow as tf

FILE_TYPES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
MIN_SIZE = 16  # pixels: two cells of 8
_LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601
_OWN_MODES = ("1", "L", "LA", "RGB", "RGBA", "I;16")  # of PIL, whose arrays are read as they are


def read(picture):
    """A picture as a NumPy array float32 `[height, width, 1]`, grey from 0 to 1.

    Colours are weighed by ITU-R BT.601; what is transparent shows white paper behind it.

    Args:
        picture: a path; the bytes of a PNG (16 bits too), JPEG, BMP, GIF or WebP file; an array or
            tensor `[height, width]` or `[height, width, channels]`, uint8, uint16, bool, or floats
            from 0 to 1, whose 1 to 4 channels are grey, grey and alpha, colours, colours and alpha;
            or a `PIL.Image.Image`.

    Raises:
        FileNotFoundError: no such file.
        TypeError: none of these kinds, or numbers of another type.
        ValueError: no picture, a damaged one, one below 16 pixels, or floats outside [0, 1].
    """
    name = f"picture {str(picture)!r}" if isinstance(picture, (str, os.PathLike)) else "the picture"
    if isinstance(picture, (str, os.PathLike)):
        picture = pathlib.Path(picture).expanduser().read_bytes()
    if isinstance(picture, bytes):
        try:
            grey = decoded(picture).numpy()
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(
                f"{name} is damaged or of no known type ({_reason(error)}); "
                f"accepted: {', '.join(FILE_TYPES)}"
            ) from None
    else:
        grey = to_grey(_floats(_array(picture, name), name)).numpy()
    if min(grey.shape[:2]) < MIN_SIZE:
        height, width, _ = grey.shape
        raise ValueError(
            f"{name} has {width} × {height} pixels; at least {MIN_SIZE} × {MIN_SIZE} are needed"
        )
    return grey


def is_picture(value):
    """Whether `value` is of a kind that `read` takes: one picture, not several."""
    kinds = (str, bytes, os.PathLike, np.ndarray, tf.Tensor)
    return isinstance(value, kinds) or hasattr(value, "getbands")


def files_in(folder):
    """Paths of the pictures in a folder and in those below it, sorted.

    Raises:
        FileNotFoundError: no folder, or no picture in it.
    """
    folder = pathlib.Path(folder).expanduser()
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in FILE_TYPES)
    if not paths:
        what = f"no {', '.join(FILE_TYPES)} file in" if folder.is_dir() else "no folder"
        raise FileNotFoundError(f"{what} {folder}")
    return paths


def decoded(contents):
    """The bytes of a file, a scalar string, to float32 `[height, width, 1]`, in the graph."""
    image = tf.io.decode_image(contents, dtype=tf.float32, expand_animations=False)
    image.set_shape([None, None, None])
    return to_grey(image)


def to_grey(images):
    """Floats `[…, channels]` with 1 to 4 channels to `[…, 1]`, in the graph; see `read`."""
    channels = tf.shape(images)[-1]
    has_alpha = channels % 2 == 0
    weights = tf.where(channels >= 3, [*_LUMINANCE, 0.0], [1.0, 0.0, 0.0, 0.0])[:channels]
    grey = tf.reduce_sum(images * weights, axis=-1, keepdims=True)
    alpha = tf.where(has_alpha, images[..., -1:], 1.0)
    return grey * alpha + (1.0 - alpha)


def _array(picture, name):
    """`[height, width, channels]`."""
    if hasattr(picture, "getbands"):  # of PIL, which need not be installed
        if picture.mode == "I":  # how PIL opens some files of 16 bits
            picture = np.asarray(picture).astype("uint16")
        elif picture.mode not in _OWN_MODES:
            picture = picture.convert("RGBA")
    if not hasattr(picture, "__array__") and not hasattr(picture, "__array_interface__"):
        raise TypeError(
            f"a picture is a path, bytes, an array or a PIL image, got {type(picture).__name__}"
        )
    array = np.asarray(picture)
    if array.ndim == 2:
        array = array[..., np.newaxis]
    if array.ndim != 3 or not 1 <= array.shape[-1] <= 4:
        raise ValueError(
            f"{name} must be [height, width] or [height, width, channels] with 1 to 4 channels, "
            f"got shape {np.shape(picture)}"
        )
    return array


def _floats(array, name):
    if array.dtype in (np.uint8, np.uint16):
        return array.astype("float32") / np.iinfo(array.dtype).max
    if array.dtype == bool:
        return array.astype("float32")
    if array.dtype.kind != "f":
        raise TypeError(f"{name} must be uint8, uint16, bool or float, got {array.dtype}")
    array = array.astype("float32")
    if array.size and not (array.min() >= 0.0 and array.max() <= 1.0):  # false for NaN
        raise ValueError(
            f"{name} has floats from {array.min():.3g} to {array.max():.3g}; they must be from 0 "
            "to 1, or pass uint8"
        )
    return array


def _reason(error):
    """TensorFlow's own words, without the name of its operation."""
    return error.message.partition("}} ")[2].partition(" [Op:")[0].rstrip(".") or error.message
