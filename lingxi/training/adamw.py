"""AdamW whose TensorFlow step passes over the weights as few times as it can."""

import re

import keras

_ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
if _ON_TENSORFLOW:
    import tensorflow as tf


@keras.saving.register_keras_serializable(package="lingxi")
class AdamW(keras.optimizers.AdamW):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2017).

    The numbers are those of `keras.optimizers.AdamW` on dense gradients; the repeated rows of a
    sparse gradient are added up before they are squared, where Keras clips by the norm of the
    unsummed rows. A small model's step is bound by memory: on TensorFlow each variable is updated
    by one fused kernel, where Keras runs a dozen operations that each read and write all weights,
    and the gradient of an embedding table stays sparse until then (not with
    `gradient_accumulation_steps`, whose sums are dense). Under a `tf.distribute` strategy and on
    other backends Keras' step is run.

    Args:
        rate_factors: `{pattern: factor}`: a variable whose path has the regular expression in it
            learns, and decays, by so much of the learning rate; the first pattern counts.
            `layer_decay` makes them for a task.
        args, kwargs: of `keras.optimizers.AdamW`.
    """

    def __init__(self, *args, rate_factors=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.rate_factors = dict(rate_factors or {})

    def factor(self, variable):
        """The share of the learning rate by which a variable learns."""
        path = self._trainable_variables[self._get_variable_index(variable)].path
        found = (f for pattern, f in self.rate_factors.items() if re.search(pattern, path))
        return next(found, 1.0)

    def apply(self, grads, trainable_variables=None):
        if _ON_TENSORFLOW and (self.gradient_accumulation_steps or self.loss_scale_factor):
            # Keras adds to gradients, or divides them, as if they were dense.
            grads = [grad if grad is None else tf.convert_to_tensor(grad) for grad in grads]
        super().apply(grads, trainable_variables)

    def update_step(self, gradient, variable, learning_rate):
        learning_rate = learning_rate * self.factor(variable)
        if not self._fused():
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        step = tf.cast(keras.ops.convert_to_tensor(self.iterations), tf.float32) + 1.0
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

    def _apply_weight_decay(self, variables):
        if self.weight_decay is None:
            return
        if not (self._fused() or self.rate_factors):
            super()._apply_weight_decay(variables)
            return
        for variable in variables:
            if self._use_weight_decay(variable):
                rate = keras.ops.cast(self.learning_rate, variable.dtype) * self.factor(variable)
                variable.assign(variable * (1.0 - rate * self.weight_decay))

    def _clip_gradients(self, grads):
        if _ON_TENSORFLOW and tf.distribute.has_strategy():
            grads = _of_all_replicas(grads)
        if not self.global_clipnorm or not self._fused():
            if _ON_TENSORFLOW:  # Keras makes float32 of slices only if they are that already
                grads = [
                    g if g is None or g.dtype == "float32" else tf.convert_to_tensor(g)
                    for g in grads
                ]
            return super()._clip_gradients(grads)
        grads = [_without_duplicates(grad) for grad in grads]
        squares = [tf.nn.l2_loss(getattr(grad, "values", grad)) for grad in grads]
        norm = tf.sqrt(2.0 * tf.add_n(squares))
        scale = self.global_clipnorm / tf.maximum(norm, self.global_clipnorm)
        return [_scaled(grad, scale) for grad in grads]

    def _all_reduce_sum_gradients(self, grads_and_vars):
        """Nothing: Keras would do it here, when each replica has clipped its own."""
        return list(grads_and_vars)

    def get_config(self):
        return {**super().get_config(), "rate_factors": self.rate_factors}

    def _fused(self):
        return (
            _ON_TENSORFLOW
            and not self.amsgrad
            and not tf.distribute.has_strategy()
            and all(v.dtype == "float32" for v in self._trainable_variables)
        )


def _tensorflow_variable(variable):
    return variable.value if isinstance(variable, keras.Variable) else variable


def _of_all_replicas(grads):
    """The sums of gradients over the replicas of a strategy."""
    replica = tf.distribute.get_replica_context()
    grads = [tf.convert_to_tensor(grad) for grad in grads]
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, grads)


def _without_duplicates(grad):
    """A sparse gradient with each row of the table at most once."""
    if not isinstance(grad, tf.IndexedSlices):
        return grad
    rows, position = tf.unique(grad.indices)
    values = tf.math.unsorted_segment_sum(grad.values, position, tf.size(rows))
    return tf.IndexedSlices(values, rows, grad.dense_shape)


def _scaled(grad, scale):
    if isinstance(grad, tf.IndexedSlices):
        return tf.IndexedSlices(grad.values * scale, grad.indices, grad.dense_shape)
    return grad * scale


def layer_decay(model, decay):
    """`rate_factors` by which a layer learns `decay` times as fast as the one above it.

    What is above all blocks learns at the full rate, block `i` of `n` by `decay^(n - i)`, and the
    embeddings by `decay^(n + 1)` (Howard & Ruder 2018, section 3.2, with a factor per block).

    Args:
        model: whose variables have `block_0`, `block_1`, … in their paths, as those of
            `lingxi.zoo` have.
    """
    if not 0.0 < decay <= 1.0:
        raise ValueError(f"layer_decay must be in (0, 1], got {decay}")
    numbers = [re.search(r"block_(\d+)/", variable.path) for variable in model.variables]
    count = 1 + max((int(number[1]) for number in numbers if number), default=-1)
    factors = {rf"block_{i}/": decay ** (count - i) for i in range(count)}
    return {**factors, "_embedding/|/embedding_": decay ** (count + 1)}
