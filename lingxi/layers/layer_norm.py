"""Layer normalization (Ba et al. 2016)."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="lingxi")
class LayerNorm(keras.layers.Layer):
    """`(x - μ) / √(σ² + ε) · γ + β` over the last axis.

    The statistics are float32 in every precision. All leading axes are flattened to one while
    training: XLA adds up the gradients of γ and β over one axis faster than over two.

    Input and output: `[..., features]`.
    """

    def __init__(self, epsilon=1e-12, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, inputs_shape):
        shape = (inputs_shape[-1],)
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones")
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros")

    def call(self, inputs, training=None):
        x = ops.cast(inputs, "float32")
        if training:
            x = ops.reshape(x, (-1, inputs.shape[-1]))  # [batch * seq, features]
        gamma, beta = ops.cast(self.gamma, "float32"), ops.cast(self.beta, "float32")
        centered = x - ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(centered), axis=-1, keepdims=True)
        x = beta + centered * (ops.rsqrt(variance + self.epsilon) * gamma)
        if training:
            x = ops.reshape(x, ops.shape(inputs))
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}
