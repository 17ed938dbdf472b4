"""Pairs of pictures with known homographies, in batches of one size to train and evaluate with."""

import itertools

import numpy as np
import tensorflow as tf

from lingxi.images.augmentation import photometric
from lingxi.images.framing import cell_masks, framed, scaling
from lingxi.images.homography import random_homography, warped
from lingxi.images.reading import read
from lingxi.python_functions import from_generator

DEEPEST = 4.0  # a view shows at least a quarter of a picture's height or width
WORKERS = 2  # threads that make pairs


def views(picture, seed, height, width, strength=1.0):
    """Two views `[height, width, 1]` of one picture, and the homography from first to second.

    One view is cut out of the picture at a scale and a place drawn by chance, the other one sees
    the picture by a random homography; which comes first is drawn too, and so is their light.

    Args:
        picture: `[h, w, 1]`; a smaller one is enlarged.
        seed: int32 `[2]`.
        strength: of `random_homography` and of `photometric`.
    """
    for_scale, for_place, for_view, for_order, *for_light = tf.unstack(
        tf.random.experimental.stateless_split(seed, 6)
    )
    size = tf.cast(tf.shape(picture)[:2], tf.float32)
    smallest = tf.reduce_max([height, width] / size)
    largest = tf.clip_by_value(1.0, smallest, DEEPEST * smallest)
    share = tf.random.stateless_uniform([], for_scale)
    scale = smallest * tf.pow(largest / smallest, share)
    size = tf.maximum(tf.cast(tf.round(size * scale), tf.int32), [height, width])
    picture = tf.image.resize(picture, size, antialias=True)

    room = tf.cast(size - [height, width] + 1, tf.float32)
    top, left = tf.unstack(tf.floor(room * tf.random.stateless_uniform([2], for_place)))
    place = tf.convert_to_tensor([[1.0, 0.0, left], [0.0, 1.0, top], [0.0, 0.0, 1.0]])
    homography = random_homography(for_view, height, width, strength)
    places = tf.stack([place, tf.matmul(place, tf.linalg.inv(homography))])
    both = warped(tf.stack([picture, picture]), places, height, width)

    swapped = tf.random.stateless_uniform([], for_order) < 0.5
    both = tf.where(swapped, tf.reverse(both, [0]), both)
    homography = tf.where(swapped, tf.linalg.inv(homography), homography)
    first, second = (
        photometric(image, light, strength)
        for image, light in zip(tf.unstack(both), for_light, strict=True)
    )
    return {"image_a": first, "image_b": second}, homography


def batches_of_views(pictures, size, batch_size, strength=1.0, repeat=False, seed=None, first=0):
    """A data set of `({"image_a", "image_b"}, homographies)`, made from single pictures.

    Args:
        pictures: a list of what `read` takes.
        size: height and width.
        repeat: without end, in a new order and by other homographies each time; else once, in
            order.
        seed: of all chance; None for another one each time the set is made.
        first: number of the batch to begin with.
    """
    spec = (tf.TensorSpec([None, None, 1]), tf.TensorSpec([2], tf.int32))

    def examples():
        order = _order(len(pictures), repeat, seed)
        for index, number in itertools.islice(order, first * batch_size, None):
            yield read(pictures[index]), number

    def made(picture, number):
        return views(picture, number, *size, strength)

    return _batches(examples, spec, made, len(pictures), batch_size, repeat)


def batches_of_pairs(
    pairs, homographies, size, batch_size, stride=8, strength=0.0, repeat=False, seed=None, first=0
):
    """A data set of `({"image_a", "image_b", "mask_a", "mask_b"}, homographies)`.

    Each picture is shrunk to fit `size`; the masks `[batch, height / stride, width / stride]` say
    which cells show it, and the homographies are those between the shrunk ones.

    Args:
        pairs: a list of pairs of what `read` takes.
        homographies: `[pairs, 3, 3]`, from pixels of the first to pixels of the second.
        stride: pixels on the side of a cell.
        strength: of `photometric`.
        others: as of `batches_of_views`.
    """
    picture = tf.TensorSpec([None, None, 1])
    spec = (picture, picture, tf.TensorSpec([3, 3]), tf.TensorSpec([2], tf.int32))

    def examples():
        order = _order(len(pairs), repeat, seed)
        for index, number in itertools.islice(order, first * batch_size, None):
            one, other = pairs[index]
            yield read(one), read(other), homographies[index], number

    def made(one, other, homography, number):
        inputs, scalings = {}, {}
        lights = tf.unstack(tf.random.experimental.stateless_split(number, 2))
        for name, image, light in zip("ab", (one, other), lights, strict=True):
            if strength:
                image = photometric(image, light, strength)
            frame, shown, scale = framed(image, *size)
            inputs[f"image_{name}"] = tf.ensure_shape(frame, [*size, 1])
            inputs[f"mask_{name}"] = cell_masks(tf.expand_dims(shown, 0), *size, stride)[0]
            scalings[name] = scaling(scale)
        back = tf.linalg.inv(scalings["a"])
        return inputs, tf.matmul(scalings["b"], tf.matmul(homography, back))

    return _batches(examples, spec, made, len(pairs), batch_size, repeat)


def _order(count, repeat, seed):
    """Pairs of a position and int32 `[2]` to draw by."""
    random = np.random.default_rng(seed)
    for _ in itertools.count() if repeat else range(1):
        for index in random.permutation(count) if repeat else range(count):
            yield index, random.integers(2**31, size=2, dtype="int32")


def _batches(examples, spec, made, count, batch_size, repeat):
    dataset = from_generator(examples, spec)
    dataset = dataset.map(made, num_parallel_calls=WORKERS)
    dataset = dataset.batch(batch_size, drop_remainder=repeat)
    if not repeat:
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(-(-count // batch_size)))
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread would delay the end of an epoch
    return dataset.prefetch(2).with_options(options)
