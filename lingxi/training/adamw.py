"""AdamW whose TensorFlow step passes once over the weights."""

import keras

_ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
if _ON_TENSORFLOW:
    import tensorflow as tf


@keras.saving.register_keras_serializable(package="lingxi")
class AdamW(keras.optimizers.AdamW):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2017).

    The numbers are those of `keras.optimizers.AdamW`. On TensorFlow each variable is updated by
    one fused kernel, where Keras runs a dozen operations that each read and write all weights.
    """

    def update_step(self, gradient, variable, learning_rate):
        if not self._fused(gradient, variable):
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value, tf.float32) + 1.0
        tf.raw_ops.ResourceApplyAdam(
            var=_tensorflow_variable(variable).handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.convert_to_tensor(gradient),
        )

    def _fused(self, gradient, variable):
        return (
            _ON_TENSORFLOW
            and not self.amsgrad
            and not tf.distribute.has_strategy()
            and keras.backend.standardize_dtype(variable.dtype) == "float32"
            and isinstance(gradient, (tf.Tensor, tf.IndexedSlices))
        )


def _tensorflow_variable(variable):
    return variable.value if isinstance(variable, keras.Variable) else variable
