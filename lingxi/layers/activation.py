"""Activation functions by the names that checkpoints use."""

import math

from keras import ops


def gelu(x):
    """`x Φ(x)` with the exact normal distribution function (Hendrycks & Gimpel 2016).

    In this order of operations TensorFlow's graph optimizer fuses it into the product before it,
    and TFLite's converter makes it one operation; those of `keras.ops.gelu` they do not know.
    """
    return (x * 0.5) * (ops.erf(x * math.sqrt(0.5)) + 1.0)


def gelu_tanh(x):
    """The tanh approximation of `gelu`, as in GPT-2."""
    return ops.gelu(x, approximate=True)


_ACTIVATIONS = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "relu": ops.relu,
    "silu": ops.silu,
    "tanh": ops.tanh,
}


def get_activation(name):
    """The function of that name.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.
    """
    if name not in _ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; known: {', '.join(sorted(_ACTIVATIONS))}")
    return _ACTIVATIONS[name]
