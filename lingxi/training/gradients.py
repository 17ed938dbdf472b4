"""Gradients of what a model says, within a training step on TensorFlow or on JAX."""

import contextlib

import keras

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
elif keras.backend.backend() == "jax":
    import jax


def gradients(objective, variables, point=()):
    """What a function gives, and its gradients.

    On JAX it is called within a `keras.StatelessScope`, which has the values of all variables that
    it reads, and gets those that it assigns.

    Args:
        objective: a function of the point to a scalar, whose gradients are wanted, and a structure
            of tensors, what else is wanted of it.
        variables: a list of `keras.Variable`s.
        point: a list of tensors.

    Returns:
        That structure; the gradients by the variables; and those by the point.
    """
    point = list(point)
    if keras.backend.backend() == "jax":
        return _on_jax(objective, variables, point)
    with tf.GradientTape() as tape:
        tape.watch(point)
        loss, found = objective(point)
    return found, *tape.gradient(loss, (variables, point))


def _on_jax(objective, variables, point):
    own = {id(variable) for variable in variables}

    def run(values, point):
        with inner_scope() as scope:
            before = dict(scope.state_mapping)
            for variable, value in zip(variables, values, strict=True):
                scope.add_update((variable, value))
            loss, found = objective(point)
        assigned = {
            key: value
            for key, value in scope.state_mapping.items()
            if key not in own and value is not before.get(key)
        }
        return loss, (found, assigned)

    with inner_scope() as scope:
        values = [scope.get_current_value(variable) for variable in variables]
        outer = scope.original_scope
    gradient = jax.grad(run, argnums=(0, 1), has_aux=True)
    (by_variables, by_point), (found, assigned) = gradient(values, point)
    outer.state_mapping.update(assigned)
    return found, by_variables, by_point


@contextlib.contextmanager
def inner_scope():
    """A `keras.StatelessScope` in which variables have the values of the scope around it."""
    with keras.StatelessScope() as scope:
        if scope.original_scope is not None:
            scope.state_mapping.update(scope.original_scope.state_mapping)
        yield scope


def summed(first, second):
    """The gradients of two losses added up; those of a table stay sparse."""
    return [_sum(a, b) for a, b in zip(first, second, strict=True)]


def _sum(first, second):
    if first is None or second is None:
        return second if first is None else first
    if keras.backend.backend() == "jax":
        return first + second
    if not (isinstance(first, tf.IndexedSlices) and isinstance(second, tf.IndexedSlices)):
        return tf.convert_to_tensor(first) + tf.convert_to_tensor(second)
    return tf.IndexedSlices(
        tf.concat([first.values, second.values], axis=0),
        tf.concat([first.indices, second.indices], axis=0),
        first.dense_shape,
    )
