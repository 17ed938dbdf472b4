"""Linear attention, the block around it and the pair of sets, beside the formulas in float64."""

import keras
import numpy as np
import pytest

from lingxi import layers
from tests.layers.reference import (
    dense,
    gradients,
    heads,
    layer_norm,
    numpy,
    random,
    randomize,
)

A, B = random(2, 5, 8, seed=1), random(2, 3, 8, seed=2)
MASK = np.array([[1, 1, 1, 1, 0], [1, 0, 1, 0, 0]], bool)


def feature(x):
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def attention(layer, x, context=None, mask=None):
    """`φ(Q) (φ(K)ᵀ V) / φ(Q) Σφ(K)`, by the matrix of all pairs that the layer avoids."""
    if layer.cross:
        query = dense(layer.query_dense, x)
        key, value = np.split(dense(layer.key_value_dense, context), 2, axis=-1)
    else:
        query, key, value = np.split(dense(layer.query_key_value_dense, x), 3, axis=-1)
    query, key, value = (heads(part, layer.num_heads) for part in (query, key, value))
    weights = feature(query) @ feature(key).swapaxes(-1, -2)  # [batch, heads, query, key]
    if mask is not None:
        weights = weights * mask[:, np.newaxis, np.newaxis]
    mixed = weights @ value / (weights.sum(-1, keepdims=True) + layer.epsilon)
    mixed = mixed.transpose(0, 2, 1, 3).reshape(*x.shape[:2], layer.hidden_dim)
    return dense(layer.output_dense, mixed)


def block(layer, x, context=None, mask=None):
    message = layer_norm(layer.attention_norm, attention(layer.attention, x, context, mask))
    inner = np.maximum(dense(layer.intermediate_dense, np.concatenate([x, message], -1)), 0)
    return x + layer_norm(layer.output_norm, dense(layer.output_dense, inner))


def built(layer, *shapes):
    layer.build(*shapes)
    return randomize(layer)


@pytest.mark.parametrize("mask", [None, MASK], ids=["all real", "padded"])
@pytest.mark.parametrize("num_heads", [1, 2, 8])
def test_self_attention_is_the_formula(num_heads, mask):
    layer = built(layers.LinearAttention(num_heads, 8), A.shape)
    got = numpy(layer(A, padding_mask=mask))
    np.testing.assert_allclose(got, attention(layer, A, mask=mask), atol=2e-5)


def test_cross_attention_is_the_formula():
    layer = built(layers.LinearAttention(2, 8, cross=True, use_bias=True), B.shape, A.shape)
    got = numpy(layer(B, context=A, padding_mask=MASK))
    np.testing.assert_allclose(got, attention(layer, B, A, MASK), atol=2e-5)


def test_padded_keys_do_not_influence_the_answer():
    layer = built(layers.LinearAttention(2, 8, cross=True), B.shape, A.shape)
    changed = np.where(MASK[..., np.newaxis], A, 9.0).astype("float32")
    first, second = (numpy(layer(B, context=c, padding_mask=MASK)) for c in (A, changed))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_without_any_real_key_the_answer_is_zero(dtype):
    layer = built(layers.LinearAttention(2, 8, dtype=dtype), A.shape)
    got = numpy(layer(A, padding_mask=np.zeros_like(MASK)))
    np.testing.assert_array_equal(got, np.zeros_like(got))


def test_thousands_of_keys_fit_into_half_precision():
    layer = built(layers.LinearAttention(1, 8, dtype="float16"), (1, 20000, 8))
    x = np.full((1, 20000, 8), 6.0, "float32")  # sums over the keys are far above 65504
    got = numpy(layer(x)).astype("float32")
    np.testing.assert_allclose(got, attention(layer, x.astype("float64")), rtol=0.02, atol=0.05)


@pytest.mark.parametrize(
    ("cross", "context", "message"),
    [(True, None, "needs `context`"), (False, A, "takes no `context`")],
    ids=["missing", "too many"],
)
def test_a_wrong_context_is_an_error(cross, context, message):
    layer = layers.LinearAttention(2, 8, cross=cross)
    with pytest.raises(ValueError, match=f"cross={cross}; it {message}"):
        layer(B, context=context)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="multiple of num_heads, got 8 and 3"):
        layers.LinearAttention(3, 8)


def test_the_block_adds_a_normalized_message():
    layer = built(layers.MessageBlock(2, cross=True), B.shape, A.shape)
    got = numpy(layer(B, context=A, padding_mask=MASK))
    np.testing.assert_allclose(got, block(layer, B, A, MASK), atol=5e-5)


def test_the_second_set_attends_to_the_first_as_updated():
    layer = built(layers.PairTransformer(2, 2), A.shape)
    a, b = A.astype("float64"), B.astype("float64")
    for self_block, cross_block in zip(layer.self_blocks, layer.cross_blocks, strict=True):
        a, b = block(self_block, a, mask=MASK), block(self_block, b)
        a = block(cross_block, a, b)
        b = block(cross_block, b, a, MASK)
    got_a, got_b = layer(A, B, mask_a=MASK)
    np.testing.assert_allclose(numpy(got_a), a, atol=1e-4)
    np.testing.assert_allclose(numpy(got_b), b, atol=1e-4)


def test_a_configuration_makes_an_equal_pair_transformer():
    layer = built(layers.PairTransformer(2, 1, norm_epsilon=0.1), A.shape)
    copy = layers.PairTransformer.from_config(layer.get_config())
    copy.build(A.shape)
    copy.set_weights(layer.get_weights())
    for ours, theirs in zip(layer(A, B), copy(A, B), strict=True):
        np.testing.assert_array_equal(numpy(ours), numpy(theirs))


def test_gradients_reach_every_weight_of_cross_attention():
    layer = built(layers.LinearAttention(2, 8, cross=True), B.shape, A.shape)
    for weight, gradient in zip(
        layer.trainable_weights, gradients(layer, B, context=A), strict=True
    ):
        assert np.isfinite(gradient).all(), weight.path
        assert np.abs(gradient).max() > 1e-8, weight.path


def test_any_number_of_cells():
    layer = built(layers.PairTransformer(2, 1), A.shape)
    for cells_a, cells_b in ((1, 4), (0, 3)):
        a, b = layer(np.ones((1, cells_a, 8), "float32"), np.ones((1, cells_b, 8), "float32"))
        assert (a.shape, b.shape) == ((1, cells_a, 8), (1, cells_b, 8))
        assert np.isfinite(keras.ops.convert_to_numpy(b)).all()
