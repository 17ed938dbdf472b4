"""Position-wise feed-forward network (Vaswani et al. 2017, section 3.3)."""

import keras

from lingxi.layers.activation import get_activation
from lingxi.layers.dense import Dense


@keras.saving.register_keras_serializable(package="lingxi")
class FeedForward(keras.layers.Layer):
    """`activation(x W₁ + b₁) W₂ + b₂`.

    Input and output: `[batch, seq, hidden]`.

    Args:
        intermediate_dim: width between the two products.
        activation: a name that `lingxi.layers.get_activation` knows.
        use_bias: biases on both products.
        kernel_initializer: for both products.
    """

    def __init__(
        self,
        intermediate_dim,
        activation="gelu",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.intermediate_dim = intermediate_dim
        get_activation(activation)  # an unknown name is an error here, not when building
        self.activation = activation
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, inputs_shape):
        def dense(units, name, activation=None):
            return Dense(
                units,
                activation=activation,
                use_bias=self.use_bias,
                kernel_initializer=self.kernel_initializer.clone(),
                dtype=self.dtype_policy,
                name=name,
            )

        self.intermediate_dense = dense(
            self.intermediate_dim, "intermediate", get_activation(self.activation)
        )
        self.intermediate_dense.build((None, inputs_shape[-1]))
        self.output_dense = dense(inputs_shape[-1], "output")
        self.output_dense.build((None, self.intermediate_dim))

    def call(self, inputs):
        return self.output_dense(self.intermediate_dense(inputs))

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return {
            **super().get_config(),
            "intermediate_dim": self.intermediate_dim,
            "activation": self.activation,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
