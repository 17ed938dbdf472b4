"""A convolution and its batch normalization, one operation at inference."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="lingxi")
class ConvNorm(keras.layers.Layer):
    """`γ (x * W - μ) / √(σ² + ε) + β`, without a bias of the convolution.

    While training, μ and σ² are those of the batch. Otherwise the trained ones are folded into the
    kernel, `x * (W γ / √(σ² + ε)) + (β - μ γ / √(σ² + ε))`: one convolution with a bias.

    Input: `[batch, height, width, channels]`. Output: `[batch, height / strides, width / strides,
    filters]`; the window of an output is centred on its pixel, as in PyTorch, at the borders too.

    Args:
        filters: channels of the output.
        kernel_size: odd side of the square window.
        strides: step between outputs.
        epsilon: added to the variance.
        momentum: what the trained statistics keep at each step.
    """

    def __init__(self, filters, kernel_size, strides=1, epsilon=1e-5, momentum=0.9, **kwargs):
        super().__init__(**kwargs)
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.norm = keras.layers.BatchNormalization(
            momentum=momentum, epsilon=epsilon, dtype=self.dtype_policy, name="norm"
        )

    def build(self, inputs_shape):
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, self.kernel_size, inputs_shape[-1], self.filters),
            initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        )
        self.norm.build((None, None, None, self.filters))

    def call(self, inputs, training=None):
        if training:
            return self.norm(self._convolve(inputs, self.kernel), training=True)
        gamma, beta = ops.cast(self.norm.gamma, "float32"), ops.cast(self.norm.beta, "float32")
        mean = ops.cast(self.norm.moving_mean, "float32")
        variance = ops.cast(self.norm.moving_variance, "float32")
        scale = gamma * ops.rsqrt(variance + self.norm.epsilon)
        outputs = self._convolve(inputs, ops.cast(self.kernel, "float32") * scale)
        # `ops.add`, not `+`: TensorFlow then fuses convolution, bias and a ReLU that follows
        return ops.add(outputs, ops.cast(beta - mean * scale, self.compute_dtype))

    def _convolve(self, inputs, kernel):
        kernel, padding = ops.cast(kernel, self.compute_dtype), "same"
        if self.strides > 1:  # "same" would pad the end only
            side = (self.kernel_size // 2, self.kernel_size // 2)
            inputs, padding = ops.pad(inputs, ((0, 0), side, side, (0, 0))), "valid"
        return ops.conv(inputs, kernel, self.strides, padding, data_format="channels_last")

    def compute_output_shape(self, inputs_shape):
        batch, *sides, _ = inputs_shape
        sides = (None if side is None else -(-side // self.strides) for side in sides)
        return (batch, *sides, self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "epsilon": self.norm.epsilon,
            "momentum": self.norm.momentum,
        }
