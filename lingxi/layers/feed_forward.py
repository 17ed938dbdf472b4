"""Position-wise feed-forward network (Vaswani et al. 2017, section 3.3)."""

import keras
from keras import ops

from lingxi.layers.activation import get_activation
from lingxi.layers.dense import Dense


@keras.saving.register_keras_serializable(package="lingxi")
class FeedForward(keras.layers.Layer):
    """`activation(x W₁ + b₁) W₂ + b₂`, or gated, `(activation(x W₁ + b₁) ⊙ (x V + c)) W₂ + b₂`.

    The gate is that of Shazeer 2020, "GLU variants"; `W₁` and `V` are one fused product.

    Input and output: `[batch, seq, hidden]`.

    Args:
        intermediate_dim: width between the two products.
        activation: a name that `lingxi.layers.get_activation` knows.
        gated: with a gate.
        dropout: rate between the two products, while training.
        use_bias: biases on both products.
        kernel_initializer: for both products.
    """

    def __init__(
        self,
        intermediate_dim,
        activation="gelu",
        gated=False,
        dropout=0.0,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.intermediate_dim = intermediate_dim
        get_activation(activation)  # an unknown name is an error here, not when building
        self.activation = activation
        self.gated = gated
        self.dropout = dropout
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

        if self.gated:
            self.intermediate_dense = dense(2 * self.intermediate_dim, "intermediate")
        else:
            self.intermediate_dense = dense(
                self.intermediate_dim, "intermediate", get_activation(self.activation)
            )
        self.intermediate_dense.build((None, inputs_shape[-1]))
        self.output_dense = dense(inputs_shape[-1], "output")
        self.output_dense.build((None, self.intermediate_dim))
        self.intermediate_dropout = keras.layers.Dropout(self.dropout, dtype=self.dtype_policy)

    def call(self, inputs, training=None):
        x = self.intermediate_dense(inputs)
        if self.gated:
            x, gate = ops.split(x, 2, axis=-1)
            x = get_activation(self.activation)(x) * gate
        return self.output_dense(self.intermediate_dropout(x, training=training))

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return {
            **super().get_config(),
            "intermediate_dim": self.intermediate_dim,
            "activation": self.activation,
            "gated": self.gated,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
