"""The convolutions of LoFTR: a ResNet with a feature pyramid (He 2016, Lin 2017)."""

import keras
from keras import ops

from lingxi.layers import ConvNorm


@keras.saving.register_keras_serializable(package="lingxi")
class ResidualBlock(keras.layers.Layer):
    """`relu(x + Norm(W₂ * relu(Norm(W₁ * x))))`, with `Norm(W * x)` for x where it is strided.

    Input: `[batch, height, width, channels]`. Output: `[…, height / strides, width / strides,
    filters]`.
    """

    def __init__(self, filters, strides=1, **kwargs):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.filters = filters
        self.strides = strides
        self.first = ConvNorm(filters, 3, strides, dtype=dtype, name="first")
        self.second = ConvNorm(filters, 3, dtype=dtype, name="second")
        self.shortcut = None
        if strides > 1:
            self.shortcut = ConvNorm(filters, 1, strides, dtype=dtype, name="shortcut")

    def build(self, inputs_shape):
        self.first.build(inputs_shape)
        self.second.build((None, None, None, self.filters))
        if self.shortcut is not None:
            self.shortcut.build(inputs_shape)

    def call(self, inputs, training=None):
        x = ops.relu(self.first(inputs, training=training))
        x = self.second(x, training=training)
        if self.shortcut is not None:
            inputs = self.shortcut(inputs, training=training)
        return ops.relu(inputs + x)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "strides": self.strides}


@keras.saving.register_keras_serializable(package="lingxi")
class ResnetFpn(keras.layers.Layer):
    """Two residual blocks at 1/2, 1/4, 1/8, … and two steps up again from the last.

    Input: `[batch, height, width, 1]`, sides that are multiples of the coarse stride, `2 ** n`.
    Output: the coarse map, `[…, height / 2**n, width / 2**n, dims[-1]]`, and the fine one, 4 times
    as large on each side, `dims[-3]`.

    Args:
        dims: n widths, one for each resolution, at least 3.
    """

    def __init__(self, dims, **kwargs):
        super().__init__(**kwargs)
        if len(dims) < 3:
            raise ValueError(f"dims needs at least three widths, got {tuple(dims)}")
        dtype = self.dtype_policy
        self.dims = tuple(dims)
        self.stem = ConvNorm(dims[0], 7, 2, dtype=dtype, name="stem")
        self.stages = [
            [
                ResidualBlock(dim, 2 if level else 1, dtype=dtype, name=f"stage_{level}_0"),
                ResidualBlock(dim, dtype=dtype, name=f"stage_{level}_1"),
            ]
            for level, dim in enumerate(dims)
        ]

        def conv(filters, size, name):
            return keras.layers.Conv2D(
                filters,
                size,
                padding="same",
                use_bias=False,
                data_format="channels_last",
                kernel_initializer=keras.initializers.VarianceScaling(
                    2.0, "fan_out", "untruncated_normal"
                ),
                dtype=dtype,
                name=name,
            )

        fine, middle, coarse = dims[-3:]
        self.coarse_lateral = conv(coarse, 1, "coarse_lateral")
        self.middle_lateral = conv(coarse, 1, "middle_lateral")
        self.middle_first = ConvNorm(coarse, 3, dtype=dtype, name="middle_first")
        self.middle_second = conv(middle, 3, "middle_second")
        self.fine_lateral = conv(middle, 1, "fine_lateral")
        self.fine_first = ConvNorm(middle, 3, dtype=dtype, name="fine_first")
        self.fine_second = conv(fine, 3, "fine_second")

    def build(self, inputs_shape):
        def maps(dim):
            return (None, None, None, dim)

        self.stem.build(maps(1))
        previous = self.dims[0]
        for dim, stage in zip(self.dims, self.stages, strict=True):
            stage[0].build(maps(previous))
            stage[1].build(maps(dim))
            previous = dim
        fine, middle, coarse = self.dims[-3:]
        for layer, dim in (
            (self.coarse_lateral, coarse),
            (self.middle_lateral, middle),
            (self.middle_first, coarse),
            (self.middle_second, coarse),
            (self.fine_lateral, fine),
            (self.fine_first, middle),
            (self.fine_second, middle),
        ):
            layer.build(maps(dim))

    def call(self, inputs, training=None):
        x = ops.relu(self.stem(inputs, training=training))
        levels = []
        for stage in self.stages:
            for block in stage:
                x = block(x, training=training)
            levels.append(x)

        fine, middle, coarse = levels[-3:]
        coarse = self.coarse_lateral(coarse)
        middle = self.middle_lateral(middle) + doubled(coarse)
        middle = ops.leaky_relu(self.middle_first(middle, training=training), 0.01)
        fine = self.fine_lateral(fine) + doubled(self.middle_second(middle))
        fine = ops.leaky_relu(self.fine_first(fine, training=training), 0.01)
        return coarse, self.fine_second(fine)

    def get_config(self):
        return {**super().get_config(), "dims": self.dims}


def doubled(inputs):
    """A map twice as large, bilinearly, its corners on the corners of `inputs`.

    Keras resizes about the centres of pixels only. Row i lies at `i (n - 1) / (2n - 1)` of the n
    old rows, and takes from row j with the weight `max(0, 1 - distance)`.
    """
    batch, height, width, dim = ops.shape(inputs)

    def weights(length):
        new = ops.expand_dims(ops.arange(2 * length, dtype="float32"), 1)
        old = ops.expand_dims(ops.arange(length, dtype="float32"), 0)
        step = ops.cast(length - 1, "float32") / ops.cast(2 * length - 1, "float32")
        return ops.cast(ops.relu(1 - ops.abs(new * step - old)), inputs.dtype)  # [2 length, length]

    x = ops.reshape(inputs, (batch, height, width * dim))
    x = ops.matmul(weights(height), x)
    x = ops.reshape(x, (batch * 2 * height, width, dim))
    x = ops.matmul(weights(width), x)
    return ops.reshape(x, (batch, 2 * height, 2 * width, dim))
