"""Small feature matchers with random weights, and pictures for them."""

import dataclasses

import keras
import numpy as np

from lingxi.images import textures, views
from lingxi.tasks import FeatureMatcher
from lingxi.zoo import Loftr, LoftrConfig

TINY = LoftrConfig(
    backbone_dims=(8, 8, 16),
    num_layers=1,
    num_heads=2,
    num_fine_heads=2,
    temperature=0.03,
    threshold=0.0,  # random weights are never sure
    border=0,
    max_matches=64,
)


def new_matcher(max_size=128, seed=7, **config):
    """The same random weights each time."""
    keras.utils.set_random_seed(seed)
    backbone = Loftr(dataclasses.replace(TINY, **config))
    # Random features and advice say little: let most cells match by their place.
    kernel = backbone.backbone.coarse_lateral.kernel
    kernel.assign(0.1 * kernel)
    for block in (*backbone.transformer.self_blocks, *backbone.transformer.cross_blocks):
        block.output_norm.gamma.assign(0.1 * block.output_norm.gamma)
    return FeatureMatcher(backbone, max_size=max_size)


def picture(height=64, width=96, seed=3):
    """uint8 `[height, width, 1]`, so that a file of it is the same picture."""
    return np.round(255 * textures(2, height, width, seed)[1]).astype("uint8")


def pair(height=64, width=96, seed=3):
    """Two views of a picture, uint8, and the homography from the first to the second."""
    inputs, homography = views(picture(seed=seed) / np.float32(255), [seed, 1], height, width, 0.3)
    sides = (inputs[name].numpy() for name in ("image_a", "image_b"))
    return tuple(np.round(255 * side).astype("uint8") for side in sides), homography.numpy()
