"""Dense, dropout, norm, feed-forward, pooler and activations against their formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingxi.layers import Dense, FeedForward, LayerNorm, Pooler, get_activation
from tests.layers import reference
from tests.layers.reference import numpy, random, randomize


def built(layer, *shape):
    layer.build(shape)
    return randomize(layer)


@pytest.mark.parametrize("name", sorted(reference.ACTIVATIONS))
def test_an_activation_is_its_formula(name):
    x = np.linspace(-8, 8, 1001, dtype="float32")
    wanted = reference.ACTIVATIONS[name](x.astype("float64"))
    np.testing.assert_allclose(numpy(get_activation(name)(x)), wanted, atol=2e-6)


def test_exact_and_approximate_gelu_differ():
    x = np.linspace(-3, 3, 101, dtype="float32")
    difference = numpy(get_activation("gelu")(x)) - numpy(get_activation("gelu_tanh")(x))
    assert 1e-4 < np.abs(difference).max() < 1e-3


def test_an_unknown_activation_lists_the_known_ones():
    with pytest.raises(ValueError, match="'mish'; known: gelu, gelu_tanh, relu, silu, tanh"):
        get_activation("mish")


@settings(max_examples=3 if reference.QUICK else 20)
@given(leading=st.lists(st.integers(0, 4), min_size=1, max_size=4), features=st.integers(1, 5))
def test_dense_is_a_product_on_the_last_axis_of_any_rank(leading, features):
    layer = built(Dense(3), None, features)
    x = random(*leading, features)
    np.testing.assert_allclose(numpy(layer(x)), reference.dense(layer, x), atol=1e-5)


def test_dense_applies_its_activation():
    layer, x = built(Dense(3, activation="tanh"), None, 4), random(2, 5, 4)
    np.testing.assert_allclose(numpy(layer(x)), np.tanh(reference.dense(layer, x)), atol=1e-6)


@pytest.mark.parametrize("epsilon", [1e-12, 1e-5, 0.5])
def test_layer_norm_is_the_formula(epsilon):
    layer, x = built(LayerNorm(epsilon=epsilon), None, None, 6), 3 * random(2, 5, 6) + 1
    np.testing.assert_allclose(numpy(layer(x)), reference.layer_norm(layer, x), atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 6), (2, 5, 6), (2, 3, 5, 6), (0, 5, 6)])
def test_layer_norm_is_the_same_while_training(shape):
    layer, x = built(LayerNorm(), None, None, 6), 3 * random(*shape)
    trained = numpy(layer(x, training=True))
    assert trained.shape == shape
    np.testing.assert_allclose(trained, numpy(layer(x)), atol=1e-6)


def test_layer_norm_is_accurate_far_from_zero():
    layer, x = built(LayerNorm(), None, None, 64), random(2, 5, 64) + 100
    wanted = reference.layer_norm(layer, x.astype("float64"))
    np.testing.assert_allclose(numpy(layer(x)), wanted, atol=1e-4)


def test_layer_norm_of_equal_values_is_finite():
    layer = built(LayerNorm(epsilon=1e-12), None, None, 6)
    assert np.isfinite(numpy(layer(np.full((1, 2, 6), 3.0, "float32")))).all()


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("activation", sorted(reference.ACTIVATIONS))
def test_feed_forward_is_the_formula(activation, use_bias):
    layer = built(FeedForward(11, activation, use_bias=use_bias), None, None, 6)
    x = random(2, 5, 6)
    assert len(layer.weights) == (4 if use_bias else 2)
    np.testing.assert_allclose(numpy(layer(x)), reference.feed_forward(layer, x), atol=2e-5)


def test_pooler_is_the_formula_of_the_first_token():
    layer, x = built(Pooler(4), None, None, 6), random(3, 5, 6)
    wanted = np.tanh(reference.dense(layer.dense, x[:, 0]))
    np.testing.assert_allclose(numpy(layer(x)), wanted, atol=1e-6)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("compiled", [False, True])
def test_in_bfloat16_a_bias_learns_from_all_rows(compiled):
    """TensorFlow adds up the gradients of a bias in bfloat16, where small ones are lost."""
    import tensorflow as tf

    rows = np.random.default_rng(0).uniform(0.5, 1.5, (8, 512, 4)).astype("float32")
    found = {}
    for dtype in ("float32", "mixed_bfloat16"):
        layer = Dense(3, dtype=dtype)
        layer.build(rows.shape)

        @tf.function(jit_compile=compiled)
        def gradient(x, layer=layer):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.cast(layer(x, training=True), "float32"))
            return tape.gradient(loss, layer.bias.value)

        found[dtype] = gradient(rows).numpy()
    np.testing.assert_array_equal(found["float32"], 8 * 512)
    np.testing.assert_allclose(found["mixed_bfloat16"], found["float32"], rtol=0.01)
