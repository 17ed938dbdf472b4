"""Root mean square normalization (Zhang & Sennrich 2019)."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="lingxi")
class RMSNorm(keras.layers.Layer):
    """`x / √(mean(x²) + ε) · γ` over the last axis, in float32 in every precision.

    Input and output: `[..., features]`.
    """

    def __init__(self, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, inputs_shape):
        self.gamma = self.add_weight(name="gamma", shape=(inputs_shape[-1],), initializer="ones")

    def call(self, inputs):
        x = ops.cast(inputs, "float32")
        mean_square = ops.mean(ops.square(x), axis=-1, keepdims=True)
        x = x * ops.rsqrt(mean_square + self.epsilon) * ops.cast(self.gamma, "float32")
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}
