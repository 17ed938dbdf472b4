"""What holds for every layer: configurations, saving, precision, odd shapes, gradients."""

import json

import keras
import numpy as np
import pytest

from lingxi import layers
from tests.layers.reference import QUICK, gradients, numpy, random, randomize

# Keras warns of a softmax over one key, which is what sequences of length 1 have.
pytestmark = pytest.mark.filterwarnings("ignore:You are using a softmax")

TOKENS = np.array([[1, 4, 2], [0, 3, 3]], "int32")
HIDDEN = random(2, 3, 8)


def _attention(**kwargs):
    return layers.MultiHeadAttention(2, 8, **kwargs)


# name: (a function that makes the layer with no argument at its default, its input)
LAYERS = {
    "Dense": (lambda **k: layers.Dense(5, activation="relu", use_bias=False, **k), HIDDEN),
    "TransformerBlock": (
        lambda **k: layers.TransformerBlock(
            4,
            6,
            activation="silu",
            gated=True,
            dropout=0.1,
            attention_dropout=0.2,
            activation_dropout=0.3,
            norm="rms",
            norm_first=True,
            norm_epsilon=1e-3,
            head_dim=3,
            attention_scale=0.7,
            use_bias=False,
            query_key_value_bias=True,
            kernel_initializer="he_normal",
            **k,
        ),
        HIDDEN,
    ),
    "FeedForward": (
        lambda **k: layers.FeedForward(6, "silu", True, 0.1, False, "he_normal", **k),
        HIDDEN,
    ),
    "LinearAttention": (
        lambda **k: layers.LinearAttention(2, 8, False, True, 0.1, "he_normal", **k),
        HIDDEN,
    ),
    "MessageBlock": (lambda **k: layers.MessageBlock(2, False, 0.1, "he_normal", **k), HIDDEN),
    "LayerNorm": (lambda **k: layers.LayerNorm(epsilon=0.1, **k), HIDDEN),
    "MultiHeadAttention": (
        lambda **k: _attention(
            dropout=0.1, head_dim=3, scale=0.7, use_bias=False, output_bias=True, **k
        ),
        HIDDEN,
    ),
    "Pooler": (lambda **k: layers.Pooler(7, "he_normal", **k), HIDDEN),
    "PositionEmbedding": (lambda **k: layers.PositionEmbedding(9, 8, "normal", **k), TOKENS),
    "RMSNorm": (lambda **k: layers.RMSNorm(epsilon=0.1, **k), HIDDEN),
    "SegmentEmbedding": (lambda **k: layers.SegmentEmbedding(5, 8, "normal", **k), TOKENS),
    "SinusoidalPosition": (lambda **k: layers.SinusoidalPosition(8, False, **k), HIDDEN),
    "SinusoidalPosition2D": (lambda **k: layers.SinusoidalPosition2D(8, True, **k), HIDDEN),
    "TokenEmbedding": (lambda **k: layers.TokenEmbedding(5, 8, "normal", **k), TOKENS),
}
SHAPES = [(0, 3), (1, 1)] if QUICK else [(0, 3), (1, 1), (3, 1), (2, 7)]
HALVES = ["mixed_bfloat16"]
if not QUICK:
    HALVES += ["bfloat16", "float16", "mixed_float16"]
each_layer = pytest.mark.parametrize(("make", "inputs"), LAYERS.values(), ids=LAYERS.keys())


def test_every_exported_layer_is_tested_here():
    classes = {n for n in layers.__all__ if isinstance(getattr(layers, n), type)}
    # these take positions, not a batch; have no `call`; have variances; take two batches
    others = {"RelativePositionBias", "LinearChainCrf", "ConvNorm", "PairTransformer"}
    assert classes == set(LAYERS) | others


@each_layer
def test_a_configuration_makes_an_equal_layer(make, inputs):
    layer = make()
    outputs = numpy(randomize_built(layer, inputs)(inputs))
    config = json.loads(json.dumps(layer.get_config()))
    copy = type(layer).from_config(config)
    assert copy.get_config() == layer.get_config()
    copy(inputs)
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(numpy(copy(inputs)), outputs)


def test_the_configuration_of_cross_attention_makes_an_equal_layer():
    layer, context = _attention(cross=True), random(2, 5, 6)
    layer(HIDDEN, context=context)
    randomize(layer)
    copy = layers.MultiHeadAttention.from_config(layer.get_config())
    copy(HIDDEN, context=context)
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(
        numpy(copy(HIDDEN, context=context)), numpy(layer(HIDDEN, context=context))
    )


@each_layer
def test_a_saved_model_gives_the_same_outputs(make, inputs, tmp_path):
    symbol = keras.Input(inputs.shape[1:], dtype=str(inputs.dtype))
    layer = make()
    model = keras.Model(symbol, layer(symbol))
    randomize(layer)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(loaded(inputs)), numpy(model(inputs)))


@each_layer
def test_the_static_shape_is_the_real_one(make, inputs):
    symbol = make()(keras.KerasTensor(inputs.shape, str(inputs.dtype)))
    outputs = make()(inputs)
    assert symbol.shape == tuple(outputs.shape)
    assert symbol.dtype == keras.backend.standardize_dtype(outputs.dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@each_layer
def test_any_batch_size_and_length(make, inputs, shape):
    layer = randomize_built(make(), inputs)
    x = np.ones((*shape, *inputs.shape[2:]), inputs.dtype)
    outputs = numpy(layer(x))
    assert np.isfinite(outputs).all()
    assert outputs.shape == layer.compute_output_spec(keras.KerasTensor(x.shape, x.dtype)).shape


@pytest.mark.parametrize("dtype", HALVES)
@each_layer
def test_half_precision_is_near_single_precision(make, inputs, dtype):
    layer, half = make(), make(dtype=dtype)
    layer(inputs)
    half(inputs)
    randomize(layer)
    half.set_weights(layer.get_weights())
    outputs = half(inputs)
    assert keras.backend.standardize_dtype(outputs.dtype) == half.compute_dtype
    assert half.compute_dtype == dtype.removeprefix("mixed_")
    np.testing.assert_allclose(
        numpy(outputs).astype("float32"), numpy(layer(inputs)), atol=0.15, rtol=0.1
    )


@pytest.mark.parametrize(
    "name", sorted(set(LAYERS) - {"SinusoidalPosition", "SinusoidalPosition2D"})
)
def test_gradients_reach_every_weight(name):
    make, inputs = LAYERS[name]
    layer = randomize_built(make(), inputs)
    assert layer.trainable_weights
    for weight, gradient in zip(layer.trainable_weights, gradients(layer, inputs), strict=True):
        assert np.isfinite(gradient).all(), weight.path
        assert np.abs(gradient).max() > 1e-8, weight.path


def randomize_built(layer, inputs):
    layer(inputs)
    return randomize(layer)
