"""Tokens on the disk: of text files that are tokenized once, and read as if they were in memory."""

import contextlib
import glob
import hashlib
import json
import mmap
import os
import pathlib
import shutil

import numpy as np
from absl import logging

import lingxi
from lingxi.files import atomic_path, sha256_of

FORMAT = 1  # of what is written
HEADER = "tokens.json"
LOCK = ".lock"


class StoredArray:
    """An array of one dimension in a file, which takes no memory but for the part that is read.

    `array[index]`, of any index of NumPy, is int32.

    Args:
        path: of the bytes of the numbers.
        dtype: of these.
    """

    def __init__(self, path, dtype):
        self._file = path.open("rb")  # stays what it is, whatever gets its name
        self._dtype = np.dtype(dtype)
        self._count = path.stat().st_size // self._dtype.itemsize

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        # Mapped anew each time: pages of the file that stay mapped would count as resident.
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, self._dtype)[index].astype("int32")


class TokenCache:
    """A directory of tokens, each of some text files as some tokenizer cuts them.

    What it holds is used again if the files (by path, size and time), the tokenizer and the version
    of lingxi are the same and the checksums are right; else it is made anew. It appears there only
    when it is complete. Several processes may use a directory at once.

    Args:
        directory: made if there is none.
        verbose: a progress bar while a text is tokenized, as of
            `lingxi.answers.progress.progress`.
    """

    def __init__(self, directory, verbose="auto"):
        self.directory = pathlib.Path(directory).expanduser()
        self.verbose = verbose

    def arrays(self, paths, tokenizer, kind, parts):
        """The arrays of some files, made if they are not there.

        Args:
            paths: list of `Path`s of text files.
            tokenizer: a `lingxi.text.Tokenizer`.
            kind: what the arrays are, a str; others have another one.
            parts: a function of `verbose` that gives dicts of int32 arrays, which one after the
                other are the whole. Token ids are `tokens`.

        Returns:
            A dict of `StoredArray`.

        Raises:
            OSError: a text cannot be read, or the cache cannot be written.
        """
        paths = [path.absolute() for path in paths]
        cut_by = _digest([type(tokenizer).__name__, tokenizer.get_config()])
        name = f"{paths[0].stem}-{_digest([list(map(str, paths)), cut_by, kind])[:16]}"
        made_of = {
            "format": FORMAT,
            "lingxi": lingxi.__version__,
            "kind": kind,
            "tokenizer": cut_by,
            "texts": [_state_of(path) for path in paths],
        }
        target = self.directory / name
        self.directory.mkdir(parents=True, exist_ok=True)
        with _alone_in(self.directory) as alone:
            found = _read(target, made_of)
            if found is None:
                if alone:
                    for left in self.directory.glob(f".{glob.escape(name)}.*"):  # by a killed one
                        shutil.rmtree(left, ignore_errors=True)
                few = tokenizer.vocab_size <= np.iinfo("uint16").max + 1
                dtypes = {"tokens": "uint16" if few else "int32"}
                _write(target, made_of, parts(self.verbose), dtypes)
                found = _read(target, made_of)
        return found


def caches(directory, x, validation_data, verbose=None):
    """The `TokenCache` of the texts of a `fit`, and that of its validation data; None for none.

    Args:
        directory: or None.
        x, validation_data, verbose: as of `fit`; what validates need not be files.

    Raises:
        TypeError: there is a directory, but `x` are not files.
    """
    if directory is None:
        return None, None
    if not _is_files(x):
        raise TypeError(
            "cache keeps the tokens of text files: x must be a path or a list of pathlib.Path, got "
            f"{type(x).__name__}; write the texts to a file, or leave out cache"
        )
    cache = TokenCache(directory, False if verbose in (0, 2) else "auto")  # 2: a line an epoch
    return cache, cache if _is_files(validation_data) else None


def _is_files(x):
    """Whether `x` names text files, and holds no texts."""
    if isinstance(x, (list, tuple)):
        return len(x) > 0 and all(isinstance(item, os.PathLike) for item in x)
    return isinstance(x, (str, os.PathLike))


def in_memory(parts):
    """A dict of arrays, from dicts of what they are one after the other."""
    parts = list(parts)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _digest(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _state_of(path):
    """What changes when a text does."""
    with path.open("rb") as file:
        state = os.fstat(file.fileno())
    return {"path": str(path), "bytes": state.st_size, "changed": state.st_mtime_ns}


@contextlib.contextmanager
def _alone_in(directory):
    """Wait until no other process tokenizes for a directory: it may be the same text.

    Yields whether that is certain: some shared disks and systems have no such locks.
    """
    with (directory / LOCK).open("a") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
            alone = True
        except (ImportError, OSError):
            alone = False
        yield alone


def _write(target, made_of, parts, dtypes):
    """Write arrays that come in parts, each to a file of its name, and a header."""
    with atomic_path(target) as temporary, contextlib.ExitStack() as files:
        temporary.mkdir()
        arrays = {}
        for part in parts:
            for name, values in part.items():
                if name not in arrays:
                    file = files.enter_context((temporary / name).open("wb"))
                    arrays[name] = file, hashlib.sha256(), np.dtype(dtypes.get(name, "int32"))
                file, digest, dtype = arrays[name]
                values = values.astype(dtype, copy=False)
                file.write(values)
                digest.update(values)
        written = {
            name: {"dtype": dtype.name, "sha256": digest.hexdigest()}
            for name, (_, digest, dtype) in arrays.items()
        }
        header = json.dumps({"made_of": made_of, "arrays": written}, indent=1)
        (temporary / HEADER).write_text(header, "utf-8")


def _read(path, made_of):
    """The arrays in a directory; None where there are none, or only damaged or other ones."""
    try:
        header = json.loads((path / HEADER).read_text("utf-8"))
        if header["made_of"] != made_of:
            return None
        for name, array in header["arrays"].items():
            if sha256_of(path / name) != array["sha256"]:
                raise ValueError(f"the checksum of {name} is wrong")
        return {name: StoredArray(path / name, a["dtype"]) for name, a in header["arrays"].items()}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        logging.warning("the tokens in %s are damaged and made anew: %s", path, error)
        return None
