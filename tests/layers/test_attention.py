"""Multi-head attention against the formula, for every kind of mask, and with a cache."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingxi.layers import MultiHeadAttention
from tests.layers import reference
from tests.layers.reference import numpy, random, randomize

# Keras warns of a softmax over one key, which is what sequences of length 1 have.
pytestmark = pytest.mark.filterwarnings("ignore:You are using a softmax")

BATCH, LENGTH, HEADS, HIDDEN = 3, 5, 2, 8
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 1, 1, 1]], bool)
CAUSAL = np.tril(np.ones((LENGTH, LENGTH), bool))
CLOSE = {"atol": 2e-6, "rtol": 1e-5}


def attention(**kwargs):
    layer = MultiHeadAttention(HEADS, HIDDEN, **kwargs)
    x = random(1, 2, HIDDEN)
    layer(x, context=x) if layer.cross else layer(x)
    return randomize(layer)


@pytest.fixture
def x():
    return random(BATCH, LENGTH, HIDDEN)


@pytest.mark.parametrize("use_bias", [True, False])
def test_self_attention_is_the_formula(x, use_bias):
    layer = attention(use_bias=use_bias)
    outputs, weights = layer(x, return_attention_weights=True)
    wanted, wanted_weights = reference.attention(layer, x)
    np.testing.assert_allclose(numpy(outputs), wanted, **CLOSE)
    np.testing.assert_allclose(numpy(weights), wanted_weights, **CLOSE)


def test_cross_attention_is_the_formula(x):
    layer, context = attention(cross=True), random(BATCH, 7, HIDDEN, seed=1)
    np.testing.assert_allclose(
        numpy(layer(x, context=context)), reference.attention(layer, x, context)[0], **CLOSE
    )


def test_cross_attention_takes_a_context_of_another_width(x):
    layer, context = MultiHeadAttention(HEADS, HIDDEN, cross=True), random(BATCH, 7, 12)
    layer(x, context=context)
    randomize(layer)
    np.testing.assert_allclose(
        numpy(layer(x, context=context)), reference.attention(layer, x, context)[0], **CLOSE
    )


def test_a_masked_context_position_has_no_influence(x):
    layer, context = attention(cross=True), random(BATCH, LENGTH, HIDDEN, seed=1)
    changed = np.where(MASK[..., np.newaxis], context, 100.0).astype("float32")
    np.testing.assert_array_equal(
        numpy(layer(x, context=context, padding_mask=MASK)),
        numpy(layer(x, context=changed, padding_mask=MASK)),
    )


RANK_3 = np.random.default_rng(1).random((BATCH, LENGTH, LENGTH)) < 0.5
RANK_4 = np.random.default_rng(2).random((BATCH, HEADS, LENGTH, LENGTH)) < 0.5
RANK_3[..., 2] = RANK_4[..., 2] = True  # every query may look somewhere
MASKS = {
    "padding": ({"padding_mask": MASK}, MASK[:, None, None]),
    "padding of integers": ({"padding_mask": MASK.astype("int32")}, MASK[:, None, None]),
    "causal": ({"causal": True}, CAUSAL),
    "rank 3": ({"attention_mask": RANK_3}, RANK_3[:, None]),
    "rank 4": ({"attention_mask": RANK_4}, RANK_4),
    "rank 4, one for all heads": ({"attention_mask": RANK_4[:, :1]}, RANK_4[:, :1]),
    "all at once": (
        {"padding_mask": MASK, "attention_mask": RANK_4, "causal": True},
        MASK[:, None, None] & RANK_4 & CAUSAL,
    ),
}


@pytest.mark.parametrize(("arguments", "allowed"), MASKS.values(), ids=MASKS.keys())
def test_masks_are_the_formula(x, arguments, allowed):
    layer = attention()
    outputs, weights = layer(x, return_attention_weights=True, **arguments)
    allowed = np.broadcast_to(allowed, weights.shape)
    seeing = allowed.any(-1)  # [batch, heads, query]
    wanted, wanted_weights = reference.attention(layer, x, allowed=allowed)
    np.testing.assert_allclose(numpy(weights)[seeing], wanted_weights[seeing], **CLOSE)
    assert not numpy(weights)[seeing][~allowed[seeing]].any()
    every_head_sees = seeing.all(1)  # [batch, query]
    np.testing.assert_allclose(numpy(outputs)[every_head_sees], wanted[every_head_sees], **CLOSE)


@settings(max_examples=2 if reference.QUICK else 15)
@given(
    batch=st.integers(0, 3),
    length=st.integers(1, 6),
    num_heads=st.sampled_from([1, 3]),
    head_dim=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)
def test_any_size_and_mask_is_the_formula(batch, length, num_heads, head_dim, seed):
    hidden = num_heads * head_dim
    layer, x = MultiHeadAttention(num_heads, hidden), random(batch, length, hidden, seed=seed)
    layer(x)
    randomize(layer, seed)
    mask = np.random.default_rng(seed).random((batch, length)) < 0.5
    mask[:, 0] = True
    outputs, weights = layer(x, padding_mask=mask, return_attention_weights=True)
    wanted, wanted_weights = reference.attention(layer, x, allowed=mask[:, None, None])
    np.testing.assert_allclose(numpy(outputs), wanted, atol=1e-5)
    np.testing.assert_allclose(numpy(weights), wanted_weights, atol=1e-5)
    np.testing.assert_allclose(numpy(weights).sum(-1), 1.0, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_query_that_sees_nothing_gets_the_mean_of_all_values(x, dtype):
    layer = attention(dtype=dtype)
    mask = np.zeros((BATCH, LENGTH), bool)
    outputs, weights = layer(x, padding_mask=mask, return_attention_weights=True)
    np.testing.assert_allclose(numpy(weights).astype("float32"), 1 / LENGTH, rtol=1e-2)
    outputs = numpy(outputs).astype("float32")
    assert np.isfinite(outputs).all()
    np.testing.assert_allclose(outputs, outputs[:, :1].repeat(LENGTH, 1), atol=1e-2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_mask_hides_large_scores_in_half_precision(dtype):
    layer = attention(dtype=dtype)
    x = 20 * random(1, LENGTH, HIDDEN)
    allowed = np.ones((1, LENGTH), bool)
    allowed[0, 3:] = False
    outputs, weights = layer(x, padding_mask=allowed, return_attention_weights=True)
    assert np.isfinite(numpy(outputs).astype("float32")).all()
    assert not numpy(weights)[..., 3:].any()


def test_attention_weights_sum_to_one(x):
    _, weights = attention()(x, padding_mask=MASK, causal=True, return_attention_weights=True)
    assert tuple(weights.shape) == (BATCH, HEADS, LENGTH, LENGTH)
    np.testing.assert_allclose(numpy(weights).sum(-1), 1.0, atol=1e-6)


@pytest.mark.parametrize("widths", [(1,) * LENGTH, (3, 1, 1), (2, 3), (LENGTH,)], ids=str)
def test_cached_steps_equal_one_causal_pass(x, widths):
    layer = attention()
    shape = (BATCH, HEADS, LENGTH, HIDDEN // HEADS)
    cache, steps, position = (np.zeros(shape, "float32"),) * 2, [], 0
    for width in widths:
        step, cache = layer(
            x[:, position : position + width], causal=True, cache=cache, cache_index=position
        )
        steps.append(numpy(step))
        position += width
    np.testing.assert_allclose(np.concatenate(steps, 1), numpy(layer(x, causal=True)), **CLOSE)


def test_what_lies_beyond_the_cached_steps_has_no_influence(x):
    layer = attention()
    shape = (BATCH, HEADS, LENGTH, HIDDEN // HEADS)
    outputs = [
        numpy(layer(x[:, :2], causal=True, cache=(rest, rest), cache_index=0)[0])
        for rest in (np.zeros(shape, "float32"), np.full(shape, 50.0, "float32"))
    ]
    np.testing.assert_array_equal(*outputs)


def test_a_left_padded_prompt_is_cached_like_one_pass(x):
    layer = attention()
    shape = (BATCH, HEADS, LENGTH, HIDDEN // HEADS)
    mask = np.array([[1, 1, 1, 1, 1], [0, 1, 1, 1, 1], [0, 0, 1, 1, 1]], bool)
    cache = (np.zeros(shape, "float32"),) * 2
    first, cache = layer(x[:, :3], padding_mask=mask, causal=True, cache=cache, cache_index=0)
    second, _ = layer(x[:, 3:], padding_mask=mask, causal=True, cache=cache, cache_index=3)
    wanted = numpy(layer(x, padding_mask=mask, causal=True))
    np.testing.assert_allclose(
        np.concatenate([numpy(first), numpy(second)], 1)[mask], wanted[mask], **CLOSE
    )


def test_weights_and_cache_come_in_that_order(x):
    layer, shape = attention(), (BATCH, HEADS, LENGTH, HIDDEN // HEADS)
    outputs, weights, cache = layer(
        x,
        cache=(np.zeros(shape, "float32"),) * 2,
        cache_index=0,
        return_attention_weights=True,
    )
    assert tuple(outputs.shape) == x.shape
    assert tuple(weights.shape) == (BATCH, HEADS, LENGTH, LENGTH)
    assert [tuple(part.shape) for part in cache] == [shape, shape]


def test_cached_cross_attention_equals_uncached(x):
    layer, context = attention(cross=True), random(BATCH, 7, HIDDEN, seed=1)
    mask = np.arange(7) < np.array([[7], [4], [1]])
    key, value = np.split(reference.dense(layer.key_value_dense, context), 2, axis=-1)
    cache = tuple(reference.heads(part, HEADS).astype("float32") for part in (key, value))
    outputs, same_cache = layer(x, cache=cache, padding_mask=mask)
    np.testing.assert_allclose(
        numpy(outputs), numpy(layer(x, context=context, padding_mask=mask)), **CLOSE
    )
    np.testing.assert_array_equal(numpy(same_cache[0]), cache[0])


def test_attention_weights_are_dropped_only_in_training(x):
    layer, plain = attention(dropout=0.5), attention()
    np.testing.assert_array_equal(numpy(layer(x)), numpy(plain(x)))
    np.testing.assert_array_equal(numpy(layer(x, training=False)), numpy(plain(x)))
    first, second = numpy(layer(x, training=True)), numpy(layer(x, training=True))
    assert np.abs(first - numpy(plain(x))).max() > 1e-3
    assert np.abs(first - second).max() > 1e-3


def test_gradients_are_finite_where_a_query_sees_nothing(x):
    layer = attention()
    mask = np.zeros((BATCH, LENGTH), bool)
    for gradient in reference.gradients(layer, x, padding_mask=mask):
        assert np.isfinite(gradient).all()


def test_it_works_in_a_functional_model(x):
    symbol, mask = keras.Input((None, HIDDEN)), keras.Input((None,), dtype="bool")
    layer = attention()
    model = keras.Model([symbol, mask], layer(symbol, padding_mask=mask))
    np.testing.assert_allclose(numpy(model([x, MASK])), numpy(layer(x, padding_mask=MASK)), **CLOSE)


def test_it_gives_its_weights_in_a_functional_model(x):
    symbol, layer = keras.Input((None, HIDDEN)), attention()
    outputs, weights = layer(symbol, return_attention_weights=True)
    model = keras.Model(symbol, [outputs, weights])
    for got, wanted in zip(model(x), layer(x, return_attention_weights=True), strict=True):
        np.testing.assert_allclose(numpy(got), numpy(wanted), **CLOSE)


def test_the_width_must_be_a_multiple_of_the_heads():
    with pytest.raises(ValueError, match="multiple of num_heads, got 10 and 3"):
        MultiHeadAttention(3, 10)


def test_cross_attention_needs_a_context(x):
    with pytest.raises(ValueError, match="needs `context`"):
        attention(cross=True)(x)


def test_self_attention_refuses_a_context(x):
    with pytest.raises(ValueError, match="cross=False"):
        attention()(x, context=x)


def test_a_cache_needs_its_index(x):
    cache = (np.zeros((BATCH, HEADS, LENGTH, HIDDEN // HEADS), "float32"),) * 2
    with pytest.raises(ValueError, match="needs `cache_index`"):
        attention()(x, cache=cache)
