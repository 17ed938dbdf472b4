"""Picking rows of each example."""

from keras import ops


def pick(values, index):
    """`values[b, index[b, i]]`: `[batch, n, …]` and int `[batch, m]` to `[batch, m, …]`."""
    batch, count, *rest = ops.shape(values)
    offset = ops.expand_dims(ops.arange(batch, dtype="int32") * count, 1)
    flat = ops.reshape(values, (batch * count, *rest))
    return ops.take(flat, ops.cast(index, "int32") + offset, axis=0)
