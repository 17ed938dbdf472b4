"""The tensors in the files of a checkpoint: safetensors, PyTorch's, NumPy's, or Google's of BERT.

Tensors are read one by one, and no file stays mapped meanwhile: the pages that were read of an open
mapping count as memory of this process, beside the weights themselves.
"""

import collections.abc
import dataclasses
import functools
import json
import math
import pathlib
import zipfile

import ml_dtypes
import numpy as np
import safetensors

from lingxi.zoo import google_bert

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
TORCH_NAME = "pytorch_model.bin"
TORCH_INDEX_NAME = "pytorch_model.bin.index.json"
SAFETENSORS_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16}
FLOATS = (*SAFETENSORS_FLOATS, "float64", "float32", "float16", "bfloat16")  # and of the others
MAPPED_BYTES = 2**26  # of a PyTorch file, whose opening is slow


class CheckpointError(ValueError):
    """A checkpoint does not fit the model; the message lists every tensor concerned."""


@dataclasses.dataclass(frozen=True)
class Stored:
    """A tensor in a file; `read()` gives its values as an array of its own."""

    shape: tuple
    dtype: str
    read: collections.abc.Callable


def stored_tensors(source):
    """`{name: Stored}` of all weights in a directory, or in one file of `FILES`.

    In a directory safetensors go before PyTorch's files, and these before Google's.

    Raises:
        FileNotFoundError: no weights, or not all shards.
        ImportError: only such weights as need a package that is not installed.
        CheckpointError: a damaged file, or a file of another kind.
    """
    source = pathlib.Path(source)
    if not source.is_file():
        return _directory(source)
    if source.suffix not in FILES:
        raise CheckpointError(f"{source} is no file of tensors; accepted: {', '.join(FILES)}")
    return FILES[source.suffix](source)


def _directory(directory):
    for index, whole, read in (
        (INDEX_NAME, WEIGHTS_NAME, _safetensors),
        (TORCH_INDEX_NAME, TORCH_NAME, _torch),
    ):
        if (directory / index).is_file():
            return _shards(directory, index, read)
        if (directory / whole).is_file():
            return read(directory / whole)
    if (directory / f"{google_bert.CHECKPOINT_NAME}.index").is_file():
        return _google_bert(directory / google_bert.CHECKPOINT_NAME)
    raise FileNotFoundError(
        f"no weights in {directory}: it needs {WEIGHTS_NAME}, or shards and {INDEX_NAME} (or "
        f"{TORCH_NAME}, or Google's {google_bert.CHECKPOINT_NAME}.index and its data). "
        f"It holds: {', '.join(sorted(p.name for p in directory.iterdir())) or 'nothing'}"
    )


def _shards(directory, index, read):
    try:
        weight_map = json.loads((directory / index).read_text("utf-8"))["weight_map"]
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"{directory / index} is no index of shards: {error!r}") from error
    tensors = {}
    for name in sorted(set(weight_map.values())):
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{index} names {directory / name}, which is absent")
        tensors.update(read(directory / name))
    return tensors


def _safetensors(path):
    try:
        with safetensors.safe_open(path, framework="numpy"):
            pass  # it has checked the header, and that the tensors fill the file
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}); "
            f"it has {path.stat().st_size} bytes: copy or download it again"
        ) from error
    with path.open("rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(header_size))
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        offset = 8 + header_size + entry["data_offsets"][0]
        dtype, shape = entry["dtype"], tuple(entry["shape"])
        read = functools.partial(_read_safetensors, path, offset, dtype, shape)
        tensors[name] = Stored(shape, dtype, read)
    return tensors


def _read_safetensors(path, offset, dtype, shape):
    values = np.fromfile(path, SAFETENSORS_FLOATS[dtype], math.prod(shape), offset=offset)
    return values.reshape(shape)


def _torch(path):
    file = _TorchFile(path)
    return {
        name: Stored(
            tuple(tensor.shape),
            str(tensor.dtype).removeprefix("torch."),
            functools.partial(file.read, name),
        )
        for name, tensor in file.open().items()
    }


class _TorchFile:
    """A PyTorch file, mapped anew after every `MAPPED_BYTES`; code in it is never run."""

    def __init__(self, path):
        self.path = path
        self.tensors = {}
        self.bytes_read = 0

    def open(self):
        try:
            import torch
        except ImportError as error:
            raise ImportError(
                f"{self.path} is a PyTorch file: pip install torch to read it, or convert it to "
                "safetensors"
            ) from error
        try:
            tensors = torch.load(self.path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # of any class: what is in the file decides
            raise CheckpointError(
                f"{self.path} is not a whole file of tensors that torch.load reads with "
                f"weights_only=True and mmap=True ({str(error).splitlines()[0]}). Damaged? Copy "
                "it again. Older than torch 1.6, or with code in it? Convert it to safetensors "
                "where you trust it"
            ) from error
        tensors = tensors.get("state_dict", tensors)  # beside what a trainer keeps
        for name, tensor in tensors.items():
            if not isinstance(tensor, torch.Tensor):
                raise CheckpointError(
                    f"{self.path} holds {name!r}, a {type(tensor).__name__}; it must hold tensors"
                )
        return tensors

    def read(self, name):
        self.tensors = self.tensors or self.open()
        values = np.array(self.tensors[name].float().numpy())
        self.bytes_read += values.nbytes
        if self.bytes_read > MAPPED_BYTES:
            self.tensors, self.bytes_read = {}, 0
        return values


def _numpy(path):
    try:
        with np.load(path, allow_pickle=False) as file:
            tensors = dict(file)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} is not a whole .npz file of arrays without pickles ({error}); copy it again"
        ) from error
    return {
        name: Stored(tensor.shape, tensor.dtype.name, functools.partial(np.array, tensor))
        for name, tensor in tensors.items()
    }


def _google_bert(prefix):
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(
            f"{prefix} is a TensorFlow checkpoint: pip install tensorflow to read it, or convert "
            "it to safetensors"
        ) from error
    try:
        reader = tf.train.load_checkpoint(str(prefix))
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{prefix} is not a whole checkpoint: {error}") from error
    shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    tensors = {}
    for theirs, (name, transposed) in google_bert.huggingface_names(shapes).items():
        shape = tuple(shapes[theirs])
        tensors[name] = Stored(
            shape[::-1] if transposed else shape,
            dtypes[theirs].name,
            functools.partial(_read_google_bert, reader, theirs, transposed),
        )
    return tensors


def _read_google_bert(reader, name, transposed):
    tensor = reader.get_tensor(name)
    return tensor.T if transposed else tensor


FILES = {
    ".safetensors": _safetensors,
    ".ckpt": _torch,
    ".pth": _torch,
    ".pt": _torch,
    ".bin": _torch,
    ".npz": _numpy,
}
