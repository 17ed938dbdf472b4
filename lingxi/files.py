"""Writing files so that a failure never leaves a half-written one, and checking what is there."""

import contextlib
import ctypes
import hashlib
import os
import pathlib
import shutil
import tempfile

_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
_PIECE = 2**24  # bytes that are read at once


def checked_file(path, suffix, name):
    """A `pathlib.Path` that a file of a kind may be written to.

    Args:
        suffix: of such files, ".onnx".
        name: of one, "an ONNX file".

    Raises:
        ValueError: the path ends otherwise. IsADirectoryError: it is one.
    """
    path = pathlib.Path(path)
    if path.suffix != suffix:
        raise ValueError(f"path must end in {suffix}, got {str(path)!r}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory; {name} cannot replace it")
    return path


@contextlib.contextmanager
def atomic_path(target):
    """Yield a temporary path beside `target`; rename it to `target` when the block succeeds.

    The block may make a file or a directory there. An existing file is replaced at once; an
    existing directory is kept until the new one is complete. If the block raises, the temporary
    path is removed and `target` is as it was.

    Raises:
        OSError: naming `target`, when it cannot be written (read-only, disk full).
    """
    target = pathlib.Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        workspace = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise OSError(error.errno, _cannot_write(target, error)) from error
    temporary = workspace / target.name
    try:
        yield temporary
        if target.is_dir():
            _swap_directories(temporary, target, workspace / "replaced")
        else:
            os.replace(temporary, target)
    except OSError as error:
        raise OSError(error.errno, _cannot_write(target, error)) from error
    finally:
        shutil.rmtree(workspace, ignore_errors=True)


def sha256_of(path):
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _swap_directories(new, target, old):
    if _exchanged(new, target):
        return
    os.replace(target, old)  # a kill between these two leaves `old` alone
    try:
        os.replace(new, target)
    except OSError:
        os.replace(old, target)
        raise


def _exchanged(first, second):
    """Whether the system could exchange two directories at once: Linux can."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is None:
        return False
    paths = os.fsencode(first), os.fsencode(second)
    return renameat2(_HERE, paths[0], _HERE, paths[1], _EXCHANGE) == 0


def _cannot_write(target, error):
    return (
        f"cannot write {target}: {error.strerror or error}. "
        "Nothing there was changed; free some space or choose a writable place"
    )
