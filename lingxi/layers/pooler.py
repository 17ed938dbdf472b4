"""The pooler of BERT."""

import keras
from keras import ops

from lingxi.layers.dense import Dense


@keras.saving.register_keras_serializable(package="lingxi")
class Pooler(keras.layers.Layer):
    """`tanh(x₀ W + b)` of the first token (Devlin et al. 2018, section 3.1).

    Input: `[batch, seq, hidden]`. Output: `[batch, hidden]`.
    """

    def __init__(self, hidden_dim, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.dense = Dense(
            hidden_dim,
            activation="tanh",
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name="dense",
        )

    def build(self, inputs_shape):
        self.dense.build((None, inputs_shape[-1]))

    def call(self, inputs):
        return self.dense(ops.take(inputs, 0, axis=1))

    def compute_output_shape(self, inputs_shape):
        return (inputs_shape[0], self.hidden_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
