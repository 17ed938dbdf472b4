"""The kernels of TensorFlow Text for LiteRT, found without importing TensorFlow.

Importing TensorFlow takes seconds and half a gigabyte; the two libraries that hold the kernels, a
tenth of both.
"""

import ctypes
import importlib.machinery
import pathlib

LIBRARIES = (  # package, file; the second needs the first
    ("tensorflow", "libtensorflow_framework.so.2"),
    ("tensorflow_text", "core/pybinds/libpybinds_library_common.so"),
)


def registerers(names):
    """What `InterpreterWithCustomOps` takes as `custom_op_registerers`.

    Args:
        names: of functions of TensorFlow Text that add a kernel, such as `AddFastBertNormalize`.

    Raises:
        ImportError: TensorFlow Text is not installed.
    """
    paths = [_folder(package) / file for package, file in LIBRARIES]
    if not all(path.exists() for path in paths):  # not on Linux
        from tensorflow_text import tflite_registrar

        return [getattr(tflite_registrar, name) for name in names]
    for path in paths:
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)  # the interpreter looks names up there
    return list(names)


def _folder(package):
    spec = importlib.machinery.PathFinder.find_spec(package)
    if spec is None:
        raise ImportError(
            f"this file takes raw text, and the kernels that read it are in {package}, which is "
            "not installed: pip install tensorflow-text (it is not imported); or export with "
            'input="ids"'
        )
    return pathlib.Path(spec.origin).parent
