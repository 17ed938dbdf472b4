"""Pictures drawn by chance, to learn matching from where photographs are few."""

import numpy as np


def textures(count, height=256, width=256, seed=0):
    """`count` pictures float32 `[height, width, 1]` from 0 to 1, of all kinds in turn.

    The kinds: clouds of fractal noise; dead leaves, that is discs and boxes of all sizes one over
    the other, which have the statistics of natural pictures (Lee et al. 2001); cells about random
    points; walls of tiles that look alike; lines of signs like those of a script.
    """
    random = np.random.default_rng(seed)
    kinds = (_clouds, _leaves, _cells, _tiles, _script)
    pictures = []
    for index in range(count):
        picture = kinds[index % len(kinds)](random, height, width)
        grain = random.uniform(0.0, 0.3) * (_clouds(random, height, width) - 0.5)
        pictures.append(_stretched(picture + grain)[..., np.newaxis])
    return pictures


def _clouds(random, height, width):
    """Noise whose amplitude falls by a power of the frequency."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, np.newaxis], np.fft.rfftfreq(width))
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(random.standard_normal((height, width)))
    return _stretched(
        np.fft.irfft2(spectrum * frequency ** -random.uniform(0.8, 1.8), (height, width))
    )


def _leaves(random, height, width):
    picture = np.full((height, width), random.random())
    longest = max(height, width)
    for _ in range(random.integers(150, 600)):
        size = longest * random.uniform(0.02, 0.6) ** 2 + 2.0
        x, y = random.uniform(-size, width + size), random.uniform(-size, height + size)
        flat = random.uniform(0.4, 1.0)
        angle = random.uniform(0.0, np.pi)
        rows = slice(max(int(y - size), 0), max(int(y + size) + 1, 0))
        columns = slice(max(int(x - size), 0), max(int(x + size) + 1, 0))
        part = picture[rows, columns]
        if not part.size:
            continue
        down, across = np.mgrid[: part.shape[0], : part.shape[1]]
        down, across = down + rows.start - y, across + columns.start - x
        u = across * np.cos(angle) + down * np.sin(angle)
        v = (down * np.cos(angle) - across * np.sin(angle)) / flat
        is_box = random.random() < 0.5
        inside = np.maximum(abs(u), abs(v)) * 1.42 < size if is_box else np.hypot(u, v) < size
        shade = random.random() + random.uniform(-0.3, 0.3) * u / size
        part[inside] = shade[inside]
    return picture


def _cells(random, height, width):
    count = random.integers(20, 150)
    centres = random.random((count, 2)) * (height, width)
    shades = random.random(count)
    rows, columns = np.mgrid[:height, :width].astype("float32")
    nearest = np.full((height, width), np.inf)
    picture = np.zeros((height, width))
    borders = np.full((height, width), np.inf)
    for (y, x), shade in zip(centres, shades, strict=True):
        distance = np.hypot(rows - y, columns - x)
        closer = distance < nearest
        borders = np.where(closer, nearest - distance, np.minimum(borders, distance - nearest))
        nearest = np.where(closer, distance, nearest)
        picture[closer] = shade
    return np.where(borders < random.uniform(0.0, 4.0), random.random(), picture)


def _tiles(random, height, width):
    """Tiles in rows, shifted as bricks are, each of its own shade."""
    tile_height, tile_width = random.integers(10, 48), random.integers(16, 80)
    joint = random.integers(1, 4)
    rows, columns = np.mgrid[:height, :width]
    row = rows // tile_height
    columns = columns + row * random.integers(0, tile_width)
    column = columns // tile_width
    shades = random.uniform(0.3, 1.0, (row.max() + 1, column.max() + 1))
    is_joint = (rows % tile_height < joint) | (columns % tile_width < joint)
    return np.where(is_joint, random.uniform(0.0, 0.4), shades[row, column])


def _script(random, height, width):
    """Signs of 5 × 5 points, of which there are few kinds, in lines of words."""
    scale = int(random.integers(1, 5))
    signs = random.random((24, 5, 5)) < 0.5
    rows, columns = -(-height // (8 * scale)), -(-width // (6 * scale))
    points = np.zeros((rows * 8, columns * 6))
    for row in range(rows):
        for column in range(columns):
            if random.random() < 0.8:
                sign = signs[random.integers(len(signs))]
                points[row * 8 : row * 8 + 5, column * 6 : column * 6 + 5] = sign
    ink = points.repeat(scale, axis=0).repeat(scale, axis=1)[:height, :width]
    return random.uniform(0.6, 1.0) - ink * random.uniform(0.3, 0.6)


def _stretched(picture):
    """From 0 to 1."""
    lowest, highest = picture.min(), picture.max()
    return ((picture - lowest) / max(highest - lowest, 1e-6)).astype("float32")
