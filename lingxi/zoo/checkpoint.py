"""Weights between Keras variables and Hugging Face safetensors files, in both directions.

An architecture describes its checkpoint once, as a list of `Tensors`; `load` and `save` read that
one table forwards and backwards.
"""

import dataclasses
import errno
import fnmatch
import json
import pathlib

import keras
import numpy as np
import safetensors
import safetensors.numpy

from lingxi.files import atomic_path

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"


class CheckpointError(ValueError):
    """A checkpoint does not fit the model; the message lists every tensor concerned."""


@dataclasses.dataclass(frozen=True)
class Tensors:
    """One Keras variable and the checkpoint tensors that hold it.

    Several tensors stand side by side on the variable's last axis (query, key and value of one
    fused product). `transpose` is for PyTorch's linear layers, which store `[out, in]`. `aliases`
    are further names of a single tensor (tied weights): a file may have it under any of them, or
    under several.
    """

    variable: keras.Variable
    names: tuple
    transpose: bool = False
    aliases: tuple = ()

    @property
    def shape(self):
        """The shape of each tensor in the file."""
        *leading, last = self.variable.shape
        shape = (*leading, last // len(self.names))
        return shape[::-1] if self.transpose else shape

    def join(self, tensors):
        parts = [tensor.T if self.transpose else tensor for tensor in tensors]
        return np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]

    def split(self):
        value = keras.ops.convert_to_numpy(self.variable)
        parts = np.split(value, len(self.names), axis=-1)
        return [np.ascontiguousarray(part.T if self.transpose else part) for part in parts]


def dense(layer, *names, transpose=True):
    """The kernel of a dense layer, and its bias if it has one, stored as one or several layers."""
    table = [Tensors(layer.kernel, tuple(f"{name}.weight" for name in names), transpose)]
    if layer.use_bias:
        table.append(Tensors(layer.bias, tuple(f"{name}.bias" for name in names)))
    return table


def norm(layer, name):
    """The scale of a normalization, and its offset if it has one."""
    table = [Tensors(layer.gamma, (f"{name}.weight",))]
    if hasattr(layer, "beta"):
        table.append(Tensors(layer.beta, (f"{name}.bias",)))
    return table


def prefixed(table, prefix):
    """`table` with `prefix` before every tensor name."""
    return [
        dataclasses.replace(
            entry,
            names=tuple(prefix + name for name in entry.names),
            aliases=tuple(prefix + name for name in entry.aliases),
        )
        for entry in table
    ]


def load(table, directory, prefix, ignored=()):
    """Read a Hugging Face directory's safetensors into the variables of `table`.

    Args:
        table: list of `Tensors`.
        directory: holds `model.safetensors`, or its shards and their index.
        prefix: of the base model's tensors in a file with a head ("bert."), which the file, the
            table or both may lack.
        ignored: patterns (`fnmatch`) of tensor names, without the prefix, that `table` need not
            have: buffers, and heads of other tasks.

    Raises:
        FileNotFoundError: no weights in `directory`.
        CheckpointError: a damaged file; or unknown, missing or wrongly shaped tensors, all listed.
    """
    directory = pathlib.Path(directory)
    with _Reader(directory) as reader:
        found = {_canonical(name, prefix): name for name in reader.names}
        for entry in table:
            aliases = [found.pop(_canonical(alias, prefix), None) for alias in entry.aliases]
            if any(aliases):
                found.setdefault(_canonical(entry.names[0], prefix), next(filter(None, aliases)))
        wanted = {_canonical(name, prefix): entry for entry in table for name in entry.names}
        unknown = [
            original
            for name, original in found.items()
            if name not in wanted and not any(fnmatch.fnmatch(name, part) for part in ignored)
        ]
        missing = [name for name in wanted if name not in found]
        misshapen = [
            f"{name}: file {reader.shape(found[name])}, model {entry.shape}"
            for name, entry in wanted.items()
            if name in found and reader.shape(found[name]) != entry.shape
        ]
        if unknown or missing or misshapen:
            raise CheckpointError(_misfit(directory, unknown, missing, misshapen))
        for entry in table:
            names = [found[_canonical(name, prefix)] for name in entry.names]
            entry.variable.assign(entry.join([reader.read(name) for name in names]))


def contains(directory, name):
    """Whether the checkpoint in `directory` has a tensor of that name, behind any prefix."""
    with _Reader(pathlib.Path(directory)) as reader:
        return any(found == name or found.endswith(f".{name}") for found in reader.names)


def save(table, path):
    """Write the variables of `table` to one safetensors file."""
    tensors = {}
    for entry in table:
        tensors.update(zip(entry.names, entry.split(), strict=True))
    with atomic_path(path) as temporary:
        try:
            safetensors.numpy.save_file(tensors, temporary, metadata={"format": "pt"})
        except safetensors.SafetensorError as error:
            raise OSError(errno.EIO, str(error)) from error


def _canonical(name, prefix):
    """Without the base model's prefix, and `gamma`/`beta` of old files as `weight`/`bias`."""
    name = name.removeprefix(prefix)
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(old):
            name = name.removesuffix(old) + new
    return name


def _misfit(directory, unknown, missing, misshapen):
    lines = [f"the weights in {directory} do not fit this model:"]
    groups = {
        "unknown in the file": unknown,
        "missing from the file": missing,
        "of another shape": misshapen,
    }
    for title, names in groups.items():
        if names:
            lines.append(f"{len(names)} tensors {title}:")
            lines.extend(f"  {name}" for name in sorted(names))
    lines.append("Check that config.json belongs to these weights.")
    return "\n".join(lines)


class _Reader:
    """The tensors of one file or of a sharded set, memory-mapped."""

    def __init__(self, directory):
        if (directory / INDEX_NAME).is_file():
            weight_map = json.loads((directory / INDEX_NAME).read_text("utf-8"))["weight_map"]
            files = {directory / name for name in weight_map.values()}
        elif (directory / WEIGHTS_NAME).is_file():
            files = {directory / WEIGHTS_NAME}
        else:
            raise FileNotFoundError(
                f"no weights in {directory}: it needs {WEIGHTS_NAME}, or shards and {INDEX_NAME}. "
                f"It holds: {', '.join(sorted(p.name for p in directory.iterdir())) or 'nothing'}"
            )
        self._files = []
        self._file_of = {}
        for path in sorted(files):
            try:
                file = safetensors.safe_open(path, framework="numpy")
            except FileNotFoundError as error:
                raise FileNotFoundError(f"{INDEX_NAME} names {path}, which is absent") from error
            except safetensors.SafetensorError as error:
                raise CheckpointError(
                    f"{path} is not a whole safetensors file ({error}); "
                    f"it has {path.stat().st_size} bytes: copy or download it again"
                ) from error
            self._files.append(file)
            self._file_of.update(dict.fromkeys(file.keys(), file))

    @property
    def names(self):
        return self._file_of.keys()

    def shape(self, name):
        return tuple(self._file_of[name].get_slice(name).get_shape())

    def read(self, name):
        return np.asarray(self._file_of[name].get_tensor(name), "float32")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._file_of.clear()
        self._files.clear()
