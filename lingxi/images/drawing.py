"""Drawings of matches, by matplotlib."""

import io

import numpy as np

from lingxi.files import atomic_path

GAP = 8  # pixels between two pictures
DPI = 100


def save_matches(path, image_a, image_b, points_a, points_b, scores, limit=500):
    """Write two pictures side by side, and a line for each match: yellow where it is sure.

    Args:
        path: its ending, such as .png, .jpg, .pdf or .svg, says what is written.
        image_a, image_b: `[height, width, 1]` from 0 to 1.
        points_a, points_b: `[matches, 2]` pixels.
        scores: `[matches]` from 0 to 1.
        limit: lines at most, those of the highest scores.

    Raises:
        ImportError: the extra `plots` is not installed.
        OSError, ValueError: `path` cannot be written, or has an unknown ending.
    """
    try:
        from matplotlib.collections import LineCollection
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("drawing needs matplotlib: pip install 'lingxi[plots]'") from error

    (height_a, width_a), (height_b, width_b) = image_a.shape[:2], image_b.shape[:2]
    height, width = max(height_a, height_b), width_a + GAP + width_b
    canvas = np.ones((height, width), "float32")
    canvas[:height_a, :width_a] = image_a[..., 0]
    canvas[:height_b, width_a + GAP :] = image_b[..., 0]

    best = np.argsort(scores)[-limit:]  # the surest are drawn last
    ends = np.stack([points_a[best], points_b[best] + [width_a + GAP, 0]], axis=1)
    figure = Figure((width / DPI, height / DPI), dpi=DPI)
    axes = figure.add_axes([0, 0, 1, 1])
    axes.set_axis_off()
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=1)
    lines = LineCollection(ends, array=np.asarray(scores)[best], cmap="viridis", linewidths=0.8)
    lines.set_clim(0, 1)
    axes.add_collection(lines, autolim=False)
    drawn = io.BytesIO()
    figure.savefig(drawn, format=str(path).rpartition(".")[2].lower(), dpi=DPI)
    with atomic_path(path) as temporary:
        temporary.write_bytes(drawn.getvalue())
