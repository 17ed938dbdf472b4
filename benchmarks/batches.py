"""Batches in .npz files, for processes in which TensorFlow runs nothing."""

import collections

import numpy as np


def write(path, batches):
    """Write `(inputs, targets)`s, or `(inputs,)`s: arrays, or dicts of them."""
    arrays = {}
    for number, batch in enumerate(batches):
        for part, values in zip(("inputs", "targets"), batch, strict=False):
            named = values if isinstance(values, dict) else {"": values}
            for name, array in named.items():
                arrays[f"{number}/{part}/{name}"] = array
    np.savez(path, **arrays)


def read(path):
    """What `write` was given, with targets `{}` where there were none."""
    parts = collections.defaultdict(lambda: {"inputs": {}, "targets": {}})
    with np.load(path, allow_pickle=False) as file:
        for key in file.files:
            number, part, name = key.split("/")
            parts[number][part][name] = file[key]
    return [(p["inputs"], p["targets"].get("", p["targets"])) for p in parts.values()]


def in_epochs(batches, epochs):
    """The batches of a `lingxi.tasks.text_data.Batches` in as many drawn orders, as `fit` does."""
    for _ in range(epochs):
        batches.rows = batches._draw_batches()
        for index in range(batches.num_batches):
            yield batches[index]
