"""What decoding does otherwise where TensorFlow itself runs the graph, not TFLite or XLA."""

import contextlib
import contextvars

import keras
from keras import ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

_BY_TENSORFLOW = contextvars.ContextVar("by_tensorflow", default=False)
FEW = 4  # rows, of which a product with a long table is no faster in oneDNN's other way


@contextlib.contextmanager
def decoding_by_tensorflow():
    """Within it, and within this thread, graphs are traced that TensorFlow itself will run.

    They write into the given cache itself, where `keras.ops.slice_update` copies all of it at every
    step: who traces one must not read a cache after a newer one was made of it. TFLite has no such
    operation. And they choose, when they run, the faster of two products with the table of a head.
    """
    token = _BY_TENSORFLOW.set(True)
    try:
        yield
    finally:
        _BY_TENSORFLOW.reset(token)


def written(cache, values, index):
    """`cache` `[batch, heads, key, head_dim]` with `values` `[batch, heads, n, head_dim]` in it.

    Args:
        index: place of the first, an int scalar; a number, in place of a tensor, begins a cache,
            which then is a copy always.
    """
    if not _is_by_tensorflow():
        return ops.slice_update(cache, (0, 0, index, 0), values)
    if isinstance(index, int):  # without XLA, by which TensorFlow would compile it first
        behind = index + ops.shape(values)[2]
        return ops.concatenate([cache[:, :, :index], values, cache[:, :, behind:]], axis=2)
    batch, heads, length, width = ops.shape(cache)
    count = ops.shape(values)[2]
    first = ops.expand_dims(ops.arange(batch * heads), 1) * length + index  # [batch * heads, 1]
    rows = first + ops.expand_dims(ops.arange(count), 0)  # [batch * heads, n]
    flat = tf.raw_ops.InplaceUpdate(
        x=ops.reshape(cache, (batch * heads * length, width)),
        i=ops.reshape(rows, (-1,)),
        v=ops.reshape(values, (-1, width)),
    )
    return ops.reshape(flat, (batch, heads, length, width))


def tied_product(rows, table):
    """`rows tableᵀ`: `[rows, hidden]` and `[vocab, hidden]` to `[rows, vocab]`.

    TensorFlow's MatMul packs the table anew at every call, but for few rows; its Einsum does not.
    """
    if not _is_by_tensorflow():
        return ops.matmul(rows, ops.transpose(table))
    return tf.cond(
        tf.shape(rows)[0] < FEW,
        lambda: tf.matmul(rows, table, transpose_b=True),
        lambda: tf.einsum("rh,vh->rv", rows, table),
    )


def _is_by_tensorflow():
    in_graph = keras.backend.backend() == "tensorflow" and not tf.executing_eagerly()
    return in_graph and _BY_TENSORFLOW.get()
