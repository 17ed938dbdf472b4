"""A model zoo for Keras 3 and TensorFlow: train on raw text, ship artifacts that take raw text.

The rooms are imported when first touched, so that `import lingxi` costs nothing.
"""

import importlib

__version__ = "0.1.0"

_ROOMS = ("cli", "data", "export", "images", "layers", "report", "tasks", "text", "training", "zoo")


def __getattr__(name):
    if name in _ROOMS:
        return importlib.import_module(f"lingxi.{name}")
    raise AttributeError(f"module 'lingxi' has no attribute {name!r}; it has {', '.join(_ROOMS)}")


def __dir__():
    return [*globals(), *_ROOMS]
