"""Weights between Keras variables and checkpoint files, in both directions.

An architecture describes its checkpoint once, as a list of `Tensors`; `load` and `save` read that
one table forwards and backwards.
"""

import dataclasses
import errno
import fnmatch

import keras
import numpy as np
import safetensors
import safetensors.numpy

from lingxi.files import atomic_path
from lingxi.zoo.weight_files import (
    FLOATS,
    INDEX_NAME,
    WEIGHTS_NAME,
    CheckpointError,
    stored_tensors,
)

__all__ = ["INDEX_NAME", "WEIGHTS_NAME", "CheckpointError", "Tensors", "load", "save"]


@dataclasses.dataclass(frozen=True)
class Tensors:
    """One Keras variable and the checkpoint tensors that hold it.

    Several tensors stand side by side on the variable's last axis (query, key and value of one
    fused product). `transpose` is for PyTorch's linear layers and convolutions, which store
    `[out, in, …]` where Keras has `[…, in, out]`. `aliases` are further names of a single tensor
    (tied weights): a file may have it under any of them, or under several.
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
        return tuple(shape[axis] for axis in self._axes)

    @property
    def _axes(self):
        """The axes of the variable in the file's order."""
        axes = range(len(self.variable.shape))
        return (*axes[:-3:-1], *axes[:-2]) if self.transpose else tuple(axes)

    def join(self, tensors):
        back = np.argsort(self._axes)
        parts = [np.transpose(tensor, back) for tensor in tensors]
        return np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]

    def split(self):
        value = keras.ops.convert_to_numpy(self.variable)
        parts = np.split(value, len(self.names), axis=-1)
        return [np.ascontiguousarray(np.transpose(part, self._axes)) for part in parts]


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


def conv(layer, name):
    """The kernel of a convolution without a bias."""
    return [Tensors(layer.kernel, (f"{name}.weight",), transpose=True)]


def batch_norm(layer, name):
    """A batch normalization, its trained statistics among it."""
    return [
        *norm(layer, name),
        Tensors(layer.moving_mean, (f"{name}.running_mean",)),
        Tensors(layer.moving_variance, (f"{name}.running_var",)),
    ]


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


def load(table, source, prefix, ignored=()):
    """Read the weights in a directory or a file into the variables of `table`.

    Args:
        table: list of `Tensors`.
        source: a directory with `model.safetensors`, or its shards and their index; or weights of
            another kind that `lingxi.zoo.weight_files` reads.
        prefix: of the base model's tensors in a file with a head ("bert."), which the file, the
            table or both may lack.
        ignored: patterns (`fnmatch`) of tensor names, without the prefix, that `table` need not
            have: buffers, and heads of other tasks.

    Raises:
        FileNotFoundError: no weights in `source`.
        ImportError: weights that need a package which is not installed.
        CheckpointError: a damaged file; or unknown, missing, wrongly shaped or quantized tensors,
            all listed.
    """
    stored = stored_tensors(source)
    found = {_canonical(name, prefix): name for name in stored}
    for entry in table:
        aliases = [found.pop(_canonical(alias, prefix), None) for alias in entry.aliases]
        if any(aliases):
            found.setdefault(_canonical(entry.names[0], prefix), next(filter(None, aliases)))
    wanted = {_canonical(name, prefix): entry for entry in table for name in entry.names}
    present = {name: stored[found[name]] for name in wanted if name in found}
    misfits = {
        "unknown in the file": [
            original
            for name, original in found.items()
            if name not in wanted and not any(fnmatch.fnmatch(name, part) for part in ignored)
        ],
        "missing from the file": [name for name in wanted if name not in found],
        "of another shape": [
            f"{name}: file {tensor.shape}, model {wanted[name].shape}"
            for name, tensor in present.items()
            if tensor.shape != wanted[name].shape
        ],
        "of a type that is not floating-point (quantized?)": [
            f"{name}: {tensor.dtype}"
            for name, tensor in present.items()
            if tensor.dtype not in FLOATS
        ],
    }
    if any(misfits.values()):
        raise CheckpointError(_describe(source, misfits))
    for entry in table:
        tensors = [present[_canonical(name, prefix)] for name in entry.names]
        parts = [np.asarray(tensor.read(), "float32") for tensor in tensors]
        entry.variable.assign(entry.join(parts))


def contains(directory, name):
    """Whether the checkpoint in `directory` has a tensor of that name, behind any prefix."""
    names = stored_tensors(directory)
    return any(found == name or found.endswith(f".{name}") for found in names)


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


def _describe(source, misfits):
    lines = [f"the weights in {source} do not fit this model:"]
    for title, names in misfits.items():
        if names:
            lines.append(f"{len(names)} tensors {title}:")
            lines.extend(f"  {name}" for name in sorted(names))
    lines.append("Check that config.json belongs to these weights.")
    return "\n".join(lines)
