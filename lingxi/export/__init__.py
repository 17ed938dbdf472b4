"""From a trained task to artifacts that take raw text, each proven equal to its task.

What writes and verifies them is imported when first asked for: to `load` a TFLite or ONNX file,
neither Keras nor TensorFlow needs to be there.
"""

import importlib
import sys
import types

from lingxi.export.artifact import load

_HOMES = {
    "Report": "verification",
    "VerificationError": "verification",
    "huggingface": "huggingface",
    "onnx": "onnx",
    "saved_model": "saved_model",
    "sweep": "sweep",
    "tflite": "tflite",
    "trim_vocabulary": "trimming",
    "verify": "verification",
}
__all__ = ["load", *_HOMES]


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"lingxi.export.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'lingxi.export' has no attribute {name!r}")


class _Export(types.ModuleType):
    """Keeps a function where Python would put the module of the same name."""

    def __setattr__(self, name, value):
        if name in _HOMES and isinstance(value, types.ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Export
