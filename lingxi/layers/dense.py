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
        if training and self.bias is not None and _sums_are_short(self.compute_dtype):
            bias = ops.cast(self.bias, self.compute_dtype)
            outputs = self.activation(_with_bias(ops.matmul(rows, self.kernel), bias))
        else:
            outputs = super().call(rows, training=training)
        return ops.reshape(outputs, (*leading, self.units))


def _sums_are_short(dtype):
    """Whether a sum over the rows loses what is small beside it: TensorFlow adds up in `dtype`."""
    return dtype != "float32" and keras.backend.backend() == "tensorflow"


@ops.custom_gradient
def _with_bias(rows, bias):
    """`rows + bias`, where the gradient of the bias is a product, which adds up in float32.

    In TensorFlow's own, in bfloat16, a fifth of it was missing after some thousand rows.
    """

    def gradients(upstream):
        ones = ops.ones((1, ops.shape(upstream)[0]), upstream.dtype)
        return upstream, ops.reshape(ops.matmul(ones, upstream), (-1,))

    return ops.add(rows, bias), gradients
