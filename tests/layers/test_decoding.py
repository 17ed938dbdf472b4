"""Caches written in place and products with the table of a head, in TensorFlow's own graphs."""

import keras
import numpy as np
import pytest
from keras import ops

from lingxi.layers import decoding_by_tensorflow
from lingxi.layers.decoding import tied_product, written

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
        with decoding_by_tensorflow():
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
        with decoding_by_tensorflow():
            return written(cache, values, 0)

    cache = tf.constant(BEFORE)
    after = begin(cache, tf.zeros([2, 3, 1, 4]))
    np.testing.assert_array_equal(cache, BEFORE)
    assert not after[:, :, 0].numpy().any()


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_a_product_with_the_table_of_a_head(count):
    generator = np.random.default_rng(count)
    rows = generator.normal(size=(count, 5)).astype("float32")
    table = generator.normal(size=(7, 5)).astype("float32")
    found = tied_product(ops.convert_to_tensor(rows), ops.convert_to_tensor(table))
    np.testing.assert_allclose(ops.convert_to_numpy(found), rows @ table.T, atol=1e-5)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, 5])])
        def product(rows):
            with decoding_by_tensorflow():
                return tied_product(rows, tf.constant(table))

        np.testing.assert_allclose(product(rows), rows @ table.T, atol=1e-5)
