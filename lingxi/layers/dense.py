"""A dense layer that always multiplies two matrices."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="lingxi")
class Dense(keras.layers.Dense):
    """`activation(x W + b)` on the last axis, computed on `[rows, features]`.

    All leading axes are flattened to one before the product: TensorFlow then runs a 2-D MatMul
    that it fuses with the bias and the activation, where Keras' own layer runs a batched product
    that it does not fuse.

    Input: `[..., features]`. Output: `[..., units]`.
    """

    def call(self, inputs, training=None):
        leading = ops.shape(inputs)[:-1]
        rows = ops.reshape(inputs, (-1, inputs.shape[-1]))  # [batch * seq, features]
        outputs = super().call(rows, training=training)
        return ops.reshape(outputs, (*leading, self.units))
