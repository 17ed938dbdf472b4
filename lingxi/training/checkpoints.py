"""Checkpoints of a training on disk: written whole or not at all, numbered, checked, pruned."""

import dataclasses
import hashlib
import json
import math
import os
import pathlib
import re
import shutil

import keras
import ml_dtypes
import numpy as np
from absl import logging

from lingxi.files import atomic_path, sha256_of
from lingxi.training.distribution import whole

STATE_NAME = "state.json"
TENSORS_NAME = "tensors.safetensors"
SUMS_NAME = "SHA256SUMS"  # as `sha256sum --check` reads it
DTYPES = {
    "bool": ("BOOL", np.bool_),
    "uint8": ("U8", np.uint8),
    "int8": ("I8", np.int8),
    "uint16": ("U16", np.uint16),
    "int16": ("I16", np.int16),
    "float16": ("F16", np.float16),
    "bfloat16": ("BF16", ml_dtypes.bfloat16),
    "uint32": ("U32", np.uint32),
    "int32": ("I32", np.int32),
    "float32": ("F32", np.float32),
    "uint64": ("U64", np.uint64),
    "int64": ("I64", np.int64),
    "float64": ("F64", np.float64),
}
_NUMPY = dict(DTYPES.values())


class Checkpoints:
    """Where and how often a training writes what it needs to go on.

    `directory/checkpoints/EEEE-SSSSSSSS` is the state after `EEEE` epochs and `SSSSSSSS` steps of
    the next one, `…-final` that of a finished training. Each holds `tensors.safetensors`,
    `state.json` and `SHA256SUMS`, appears under its name only when all of it is on the disk, and is
    read only if the sums are right. The older ones are removed after that.

    Args:
        directory: of one training.
        every_steps: steps between two checkpoints, if not None.
        every_seconds: seconds between two checkpoints, if not None. One is also written before the
            first step, after every epoch and at the end.
        keep: how many are kept, the newest; one of the end of an epoch whose `best` is the best of
            those seen stays, too.
        best: a value of the history; ignored where there is none of that name.
        mode: "min" or "max", which `best` is best.
    """

    def __init__(
        self,
        directory,
        every_steps=None,
        every_seconds=300.0,
        keep=2,
        best="val_loss",
        mode="min",
    ):
        if keep < 1:
            raise ValueError(f"keep must be at least 1 checkpoint, got {keep}")
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {mode!r}")
        for name, value in (("every_steps", every_steps), ("every_seconds", every_seconds)):
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be more than 0, or None, got {value}")
        self.directory = pathlib.Path(directory).expanduser() / "checkpoints"
        self.every_steps = every_steps
        self.every_seconds = every_seconds
        self.keep = keep
        self.best = best
        self.mode = mode

    @classmethod
    def at(cls, place):
        """`place` itself, or the checkpoints of the directory that it names."""
        return place if isinstance(place, cls) else cls(place)

    def write(self, state, tensors):
        """Write one checkpoint and remove those that are no longer kept.

        Args:
            state: a dict for JSON, with `epoch`, `step` and `finished`.
            tensors: a dict of arrays or Keras variables, which are read one by one.

        Returns:
            Its path.

        Raises:
            OSError: the disk is full, say. The other checkpoints are as they were.
        """
        ending = "-final" if state["finished"] else ""
        path = self.directory / f"{state['epoch']:04d}-{state['step']:08d}{ending}"
        with atomic_path(path) as temporary:
            temporary.mkdir()
            text = json.dumps(state, indent=1).encode()
            sums = {
                TENSORS_NAME: _write(temporary / TENSORS_NAME, _safetensors(tensors)),
                STATE_NAME: _write(temporary / STATE_NAME, [text]),
            }
            lines = "".join(f"{sum_}  {name}\n" for name, sum_ in sums.items())
            _write(temporary / SUMS_NAME, [lines.encode()])
            _sync(temporary)
        _sync(self.directory)
        self._prune()
        return path

    def newest(self, accept=lambda checkpoint: True):
        """The newest whole `Checkpoint` that `accept` takes, or None; of damaged ones it warns.

        Raises:
            ValueError: there are checkpoints, but all are damaged.
        """
        paths, damaged = self._paths(), 0
        for path in reversed(paths):
            try:
                checkpoint = Checkpoint.read(path)
            except (OSError, ValueError, KeyError) as error:
                logging.warning("the checkpoint %s is damaged and left out: %s", path, error)
                damaged += 1
                continue
            if accept(checkpoint):
                return checkpoint
        if paths and damaged == len(paths):
            raise ValueError(
                f"all checkpoints in {self.directory} are damaged; remove that directory to begin "
                "anew, or pass another one"
            )
        return None

    def seed(self):
        """The seed of the training that the checkpoints are of, or None where there are none."""
        for path in reversed(self._paths()):
            try:
                return json.loads((path / STATE_NAME).read_text("utf-8"))["settings"]["seed"]
            except (OSError, ValueError, KeyError):  # `newest` says more of it
                continue
        return None

    def clean(self):
        """Remove what a killed process left half written or half removed."""
        for path in self.directory.glob(".*"):
            shutil.rmtree(path, ignore_errors=True)

    def load(self, model, which="best"):
        """Give a model the weights of the best or of the newest checkpoint.

        Args:
            which: "best", as `best` and `mode` say, or "newest".

        Returns:
            The `Checkpoint`.

        Raises:
            FileNotFoundError: there is none.
        """
        if which not in ("best", "newest"):
            raise ValueError(f"which must be 'best' or 'newest', got {which!r}")
        path = self._best(self._paths()) if which == "best" else None
        checkpoint = Checkpoint.read(path) if path else None
        if which == "newest":
            checkpoint = self.newest()
        if checkpoint is None:
            measured = f" with {self.best!r}" if which == "best" else ""
            raise FileNotFoundError(f"no checkpoint{measured} in {self.directory}")
        checkpoint.restore("model", model.variables)
        return checkpoint

    def _paths(self):
        """All checkpoints, the oldest first."""
        if not self.directory.is_dir():
            return []
        named = re.compile(r"\d+-\d+(-final)?")
        return sorted(path for path in self.directory.iterdir() if named.fullmatch(path.name))

    def _prune(self):
        paths = self._paths()
        final = [path for path in paths if path.name.endswith("final")]
        others = [path for path in paths if path not in final]
        kept = {*others[-self.keep :], *final[-1:], self._best(paths)}
        for path in paths:
            if path not in kept:
                removed = path.with_name(f".{path.name}")
                path.rename(removed)  # at once, so that no half of it can be taken for a whole
                shutil.rmtree(removed, ignore_errors=True)

    def _best(self, paths):
        """The path with the best value of `best`, the first of equals; None where none has one."""
        scores = {}
        for path in paths:
            try:
                logs = json.loads((path / STATE_NAME).read_text("utf-8"))["logs"]
            except (OSError, ValueError, KeyError):
                continue
            if not math.isnan(logs.get(self.best, math.nan)):
                scores[path] = logs[self.best]
        choose = min if self.mode == "min" else max
        return choose(scores, key=scores.get, default=None)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose sums were right.

    Attributes:
        path: its directory.
        state: what `Checkpoints.write` was given.
        places: `{name: (dtype, shape, offset)}` of the tensors in the file.
    """

    path: pathlib.Path
    state: dict
    places: dict

    @classmethod
    def read(cls, path):
        """Raises: OSError, ValueError, KeyError, for one that is not whole."""
        sums = dict(
            reversed(line.split("  ", 1))
            for line in (path / SUMS_NAME).read_text("utf-8").splitlines()
        )
        for name in (STATE_NAME, TENSORS_NAME):
            if sha256_of(path / name) != sums[name]:
                raise ValueError(f"the checksum of {name} is wrong")
        state = json.loads((path / STATE_NAME).read_text("utf-8"))
        with (path / TENSORS_NAME).open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        places = {
            name: (_NUMPY[entry["dtype"]], tuple(entry["shape"]), 8 + size + start)
            for name, entry in header.items()
            for start, _ in [entry["data_offsets"]]
        }
        return cls(path, state, places)

    def tensor(self, name):
        """The array of that name."""
        dtype, shape, offset = self.places[name]
        count = math.prod(shape)
        return np.fromfile(self.path / TENSORS_NAME, dtype, count, offset=offset).reshape(shape)

    def check(self, group, variables):
        """Raise ValueError unless the tensors of a group have the variables' number and shapes."""
        names = [name for name in self.places if name.startswith(f"{group}/")]
        if len(names) != len(variables):
            raise ValueError(
                f"{self.path} has {len(names)} variables of the {group}, but there are "
                f"{len(variables)} now; build and compile the model as for the training that it "
                "is of"
            )
        for index, variable in enumerate(variables):
            dtype, shape, _ = self.places[numbered(group, index)]
            wanted = np.dtype(dtype).name, shape
            got = keras.backend.standardize_dtype(variable.dtype), tuple(variable.shape)
            if got != wanted:
                raise ValueError(
                    f"{self.path}: {variable.path} was {wanted[0]} {list(wanted[1])}, but is "
                    f"{got[0]} {list(got[1])}"
                )

    def restore(self, group, variables):
        """Assign the tensors of a group to variables."""
        self.check(group, variables)
        for index, variable in enumerate(variables):
            variable.assign(self.tensor(numbered(group, index)))


def numbered(group, index):
    """The name of a tensor: paths of variables need not differ, and change with their number."""
    return f"{group}/{index:05d}"


def _safetensors(tensors):
    """The bytes of a safetensors file, in parts."""
    header, offset = {}, 0
    for name, tensor in tensors.items():
        code, dtype = DTYPES[keras.backend.standardize_dtype(tensor.dtype)]
        end = offset + math.prod(tensor.shape) * np.dtype(dtype).itemsize
        shape = list(tensor.shape)
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    for tensor in tensors.values():
        array = np.ascontiguousarray(whole(tensor))
        yield array.reshape(-1).view(np.uint8)


def _write(path, parts):
    """Write bytes, through to the disk; their SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
            digest.update(part)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _sync(directory):
    """Have the names in a directory on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
