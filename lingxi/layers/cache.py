"""Writing into the cache of a decoder."""

import contextlib
import contextvars

import keras
from keras import ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

_IN_PLACE = contextvars.ContextVar("in_place", default=False)


@contextlib.contextmanager
def caches_in_place():
    """Within it, and within this thread, TensorFlow's graphs write into the given cache itself.

    `keras.ops.slice_update` copies all of it at every step. Who traces a graph within it must not
    read a cache after a newer one was made of it. TFLite has no such operation.
    """
    token = _IN_PLACE.set(True)
    try:
        yield
    finally:
        _IN_PLACE.reset(token)


def written(cache, values, index):
    """`cache` `[batch, heads, key, head_dim]` with `values` `[batch, heads, n, head_dim]` in it.

    Args:
        index: place of the first, an int scalar; a number, in place of a tensor, begins a cache,
            which then is a copy always.
    """
    if isinstance(index, int) or not _IN_PLACE.get() or not _is_traced():
        return ops.slice_update(cache, (0, 0, index, 0), values)
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


def _is_traced():
    return keras.backend.backend() == "tensorflow" and not tf.executing_eagerly()
