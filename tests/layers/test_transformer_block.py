"""One encoder block against the formula."""

import keras
import numpy as np
import pytest

from lingxi.layers import TransformerBlock
from tests.layers import reference
from tests.layers.reference import numpy, random, randomize

MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], bool)


def block(**kwargs):
    layer = TransformerBlock(2, 12, **kwargs)
    layer.build((None, None, 8))
    return randomize(layer)


@pytest.fixture
def x():
    return random(2, 4, 8)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
def test_a_block_is_the_formula(x, norm_first, activation):
    layer = block(norm_first=norm_first, activation=activation)
    outputs = numpy(layer(x, padding_mask=MASK))
    wanted = reference.transformer_block(layer, x, MASK[:, None, None])
    np.testing.assert_allclose(outputs, wanted, atol=2e-5)


def test_causal_and_custom_masks_reach_the_attention(x):
    layer, allowed = block(), np.tril(np.ones((4, 4), bool))
    wanted = reference.transformer_block(layer, x, allowed)
    np.testing.assert_allclose(numpy(layer(x, causal=True)), wanted, atol=2e-5)
    custom = np.broadcast_to(allowed, (2, 4, 4))
    np.testing.assert_allclose(numpy(layer(x, attention_mask=custom)), wanted, atol=2e-5)


def test_attention_weights_come_with_the_outputs(x):
    layer = block()
    outputs, weights = layer(x, padding_mask=MASK, return_attention_weights=True)
    np.testing.assert_array_equal(numpy(outputs), numpy(layer(x, padding_mask=MASK)))
    np.testing.assert_allclose(numpy(weights).sum(-1), 1.0, atol=1e-6)
    assert not numpy(weights)[1, :, :, 2:].any()


def test_attention_weights_come_with_the_outputs_of_a_functional_model(x):
    symbol, layer = keras.Input((None, 8)), block()
    outputs, weights = layer(symbol, return_attention_weights=True)
    model = keras.Model(symbol, [outputs, weights])
    for got, wanted in zip(model(x), layer(x, return_attention_weights=True), strict=True):
        np.testing.assert_allclose(numpy(got), numpy(wanted), atol=1e-6)


@pytest.mark.parametrize("rates", [{"dropout": 0.5}, {"attention_dropout": 0.5}], ids=str)
def test_dropout_acts_only_in_training(x, rates):
    layer, plain = block(**rates), block()
    np.testing.assert_array_equal(numpy(layer(x)), numpy(plain(x)))
    assert np.abs(numpy(layer(x, training=True)) - numpy(plain(x))).max() > 1e-3


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="multiple of num_heads, got 10 and 3"):
        TransformerBlock(3, 12).build((None, None, 10))


def test_an_unknown_activation_is_named():
    with pytest.raises(ValueError, match="unknown activation 'swiglu'; known: gelu"):
        TransformerBlock(2, 12, activation="swiglu").build((None, None, 8))
