"""Pictures: reading, framing, homographies, augmentation, drawing."""

from lingxi.images.augmentation import photometric
from lingxi.images.drawing import save_matches
from lingxi.images.homography import corner_errors, estimate, random_homography, through, warped
from lingxi.images.pairs import batches_of_pairs, batches_of_views, views
from lingxi.images.reading import files_in, read
from lingxi.images.textures import textures

__all__ = [
    "batches_of_pairs",
    "batches_of_views",
    "corner_errors",
    "estimate",
    "files_in",
    "photometric",
    "random_homography",
    "read",
    "save_matches",
    "textures",
    "through",
    "views",
    "warped",
]
