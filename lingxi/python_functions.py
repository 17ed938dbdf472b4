"""Data sets that call Python, and go with all that they hold when nobody uses them any more.

TensorFlow keeps each function that a data set calls until the process ends, and with it the texts
and tokens of every `fit`. It gets one here that holds nothing; the data set holds the other.
"""

import weakref

import tensorflow as tf


def from_generator(function, signature):
    """As `tf.data.Dataset.from_generator`."""
    dataset = tf.data.Dataset.from_generator(_weak(function), output_signature=signature)
    dataset.calls = function
    return dataset


def mapped(dataset, function, signature):
    """Each element of a data set by a function of NumPy.

    Args:
        dataset: whose elements are tensors.
        function: of an array.
        signature: a `tf.TensorSpec` of what it gives.
    """
    call = _weak(function)

    def in_graph(element):
        made = tf.numpy_function(call, [element], signature.dtype)
        return tf.ensure_shape(made, signature.shape)

    dataset = dataset.map(in_graph)
    dataset.calls = function
    return dataset


def _weak(function):
    reference = weakref.ref(function)

    def call(*arguments):
        function = reference()
        if function is None:
            raise ReferenceError("a data set is read whose source is gone; keep that in a variable")
        return function(*arguments)

    return call
