"""A convolution with batch normalization: trained statistics, folding, borders."""

import keras
import numpy as np
import pytest

from lingxi import layers
from tests.layers.reference import gradients, numpy, random

X = random(2, 6, 8, 3)


def made(kernel_size=3, strides=1, **kwargs):
    """A layer whose every weight is random; its variances are above zero."""
    layer = layers.ConvNorm(4, kernel_size, strides, **kwargs)
    layer.build(X.shape)
    generator = np.random.default_rng(0)
    for weight in layer.weights:
        low = 0.5 if "variance" in weight.path else -0.5
        weight.assign(generator.uniform(low, 1.5, weight.shape))
    return layer


def convolved(layer, x):
    """The convolution, each window centred on its pixel; zeros beyond the borders."""
    kernel, half = numpy(layer.kernel).astype("float64"), layer.kernel_size // 2
    padded = np.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], axis=(1, 2))
    windows = windows[:, :: layer.strides, :: layer.strides]  # [batch, height, width, channels, …]
    return np.einsum("bhwcyx,yxcf->bhwf", windows, kernel)


def normalized(layer, y, mean, variance):
    gamma, beta = numpy(layer.norm.gamma), numpy(layer.norm.beta)
    return (y - mean) / np.sqrt(variance + layer.norm.epsilon) * gamma + beta


@pytest.mark.parametrize(("kernel_size", "strides"), [(3, 1), (3, 2), (7, 2), (1, 2)])
def test_trained_statistics_are_folded_into_the_kernel(kernel_size, strides):
    layer = made(kernel_size, strides)
    mean, variance = numpy(layer.norm.moving_mean), numpy(layer.norm.moving_variance)
    wanted = normalized(layer, convolved(layer, X), mean, variance)
    got = layer(X)
    np.testing.assert_allclose(numpy(got), wanted, atol=5e-5)
    assert tuple(got.shape) == layer.compute_output_shape(X.shape)
    np.testing.assert_array_equal(numpy(layer.norm.moving_mean), mean)


def test_while_training_the_batch_is_normalized_and_remembered():
    layer = made(momentum=0.75)
    y = convolved(layer, X)
    mean, variance = y.mean((0, 1, 2)), y.var((0, 1, 2))
    old = numpy(layer.norm.moving_mean), numpy(layer.norm.moving_variance)
    got = numpy(layer(X, training=True))
    np.testing.assert_allclose(got, normalized(layer, y, mean, variance), atol=5e-5)
    new = numpy(layer.norm.moving_mean), numpy(layer.norm.moving_variance)
    for before, now, batch in zip(old, new, (mean, variance), strict=True):
        np.testing.assert_allclose(now, 0.75 * before + 0.25 * batch, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_half_precision_is_near_single_precision(dtype):
    half = made(dtype=dtype)(X)
    assert keras.backend.standardize_dtype(half.dtype) == dtype.removeprefix("mixed_")
    whole = numpy(made()(X))
    np.testing.assert_allclose(numpy(half).astype("float32"), whole, atol=0.2, rtol=0.05)


def test_gradients_reach_every_weight_in_training():
    layer = made()
    weights = [weight.path for weight in layer.trainable_weights]
    assert len(weights) == 3
    for path, gradient in zip(weights, gradients(layer, X, training=True), strict=True):
        assert np.isfinite(gradient).all(), path
        # a normalized output is the same for every scale of the kernel: little reaches it
        assert np.abs(gradient).max() > 1e-8, path


def test_a_saved_model_gives_the_same_outputs(tmp_path):
    symbol = keras.Input(X.shape[1:])
    layer = made(5, 2, epsilon=0.1)
    model = keras.Model(symbol, layer(symbol))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(loaded(X)), numpy(model(X)))


def test_an_even_kernel_has_no_centre():
    with pytest.raises(ValueError, match="kernel_size must be odd, got 4"):
        layers.ConvNorm(8, 4)
