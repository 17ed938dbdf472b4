"""Keys and values are written into a cache at their place, by TensorFlow's graphs in place."""

import keras
import numpy as np
import pytest
from keras import ops

from lingxi.layers import caches_in_place
from lingxi.layers.cache import written

SHAPE = 2, 3, 5, 4  # batch, heads, key, head_dim
BEFORE = np.arange(np.prod(SHAPE), dtype="float32").reshape(SHAPE)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("index", [0, 3])
def test_values_stand_at_their_place(count, index):
    index = min(index, SHAPE[2] - count)
    new = -1.0 - np.arange(2 * 3 * count * 4, dtype="float32").reshape(2, 3, count, 4)
    wanted = BEFORE.copy()
    wanted[:, :, index : index + count] = new
    for place in (index, ops.convert_to_tensor(index)):
        found = written(ops.convert_to_tensor(BEFORE), ops.convert_to_tensor(new), place)
        np.testing.assert_array_equal(ops.convert_to_numpy(found), wanted)
    if keras.backend.backend() == "tensorflow":
        found = _in_graph("float32")(BEFORE, new, index)
        np.testing.assert_array_equal(found, wanted)


def _in_graph(dtype):
    import tensorflow as tf

    def write(cache, values, index):
        cache = tf.cast(cache, dtype) + tf.zeros([], dtype)  # else the array given is written to
        with caches_in_place():
            return written(cache, tf.cast(values, dtype), index)

    specs = tf.TensorSpec(SHAPE, "float32"), tf.TensorSpec([2, 3, None, 4], "float32")
    return tf.function(write, input_signature=[*specs, tf.TensorSpec([], "int32")], autograph=False)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_graph_writes_in_place(dtype):
    write = _in_graph(dtype)
    kinds = {operation.type for operation in write.get_concrete_function().graph.get_operations()}
    assert "InplaceUpdate" in kinds and "XlaDynamicUpdateSlice" not in kinds
    found = write(BEFORE, np.zeros((2, 3, 1, 4), "float32"), 2).numpy().astype("float32")
    assert not found[:, :, 2].any() and (found[:, :, 3] == BEFORE[:, :, 3]).all()


@pytest.mark.tensorflow_only
def test_a_new_cache_is_a_copy():
    import tensorflow as tf

    @tf.function(autograph=False)
    def begin(cache, values):
        with caches_in_place():
            return written(cache, values, 0)

    cache = tf.constant(BEFORE)
    after = begin(cache, tf.zeros([2, 3, 1, 4]))
    np.testing.assert_array_equal(cache, BEFORE)
    assert not after[:, :, 0].numpy().any()
