"""Sines and cosines of places in an image."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="lingxi")
class SinusoidalPosition2D(keras.layers.Layer):
    """Fixed sines and cosines of column and row, both counted from 1 (LoFTR, Sun et al. 2021).

    `PE(x, y)` has `sin(ω x), cos(ω x), sin(ω y), cos(ω y)` in channels `4i` to `4i + 3`, with
    `ω = 10000^(-4i / hidden_dim)` as in the paper's supplement.

    Input: anything of shape `[batch, height, width, …]`. Output: `[1, height, width, hidden]`.

    Args:
        hidden_dim: width, a multiple of 4.
        precedence_slip: `ω = e^(-2i)` instead. The original code divides in the wrong order, and
            its released "outdoor" and "indoor" weights were trained so
            (github.com/zju3dv/LoFTR/issues/41).
    """

    def __init__(self, hidden_dim, precedence_slip=False, **kwargs):
        super().__init__(**kwargs)
        if hidden_dim % 4:
            raise ValueError(f"hidden_dim must be a multiple of 4, got {hidden_dim}")
        self.hidden_dim = hidden_dim
        self.precedence_slip = precedence_slip

    def call(self, inputs):
        height, width = ops.shape(inputs)[1:3]
        step = np.arange(0, self.hidden_dim // 2, 2)
        base = np.e if self.precedence_slip else 10000.0 ** (2 / self.hidden_dim)
        frequency = (base**-step).astype("float32")

        def waves(length):
            place = ops.reshape(ops.arange(1, length + 1, dtype="float32"), (-1, 1))
            angle = place * frequency  # [length, hidden / 4]
            return ops.stack([ops.sin(angle), ops.cos(angle)], axis=-1)

        shape = (1, height, width, self.hidden_dim // 4, 2)
        columns = ops.broadcast_to(ops.expand_dims(waves(width), (0, 1)), shape)
        rows = ops.broadcast_to(ops.expand_dims(waves(height), (0, 2)), shape)
        table = ops.concatenate([columns, rows], axis=-1)
        table = ops.reshape(table, (1, height, width, self.hidden_dim))
        return ops.cast(table, self.compute_dtype)

    def compute_output_shape(self, inputs_shape):
        return (1, *inputs_shape[1:3], self.hidden_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "precedence_slip": self.precedence_slip,
        }
