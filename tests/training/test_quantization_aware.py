"""`lingxi.training.quantization_aware`: learning with rounded weights."""

import keras
import numpy as np
import pytest
from keras import ops

from lingxi.training import quantization_aware
from lingxi.training.quantization_aware import fake_quantized


@pytest.fixture
def classifier(tiny_classifier):
    return tiny_classifier(config={"hidden_dim": 64, "intermediate_dim": 128})


@pytest.mark.parametrize(("bits", "levels"), [(4, 15), (8, 255)])
def test_rounded_weights_are_on_a_grid_and_stay_there(bits, levels):
    weights = np.random.default_rng(0).normal(size=(500, 3)).astype("float32")
    found = ops.convert_to_numpy(fake_quantized(weights, 0, bits))
    assert all(len(np.unique(column)) <= levels for column in found.T)
    step = np.abs(weights).max(axis=0) / (levels // 2)
    assert (np.abs(found - weights) <= step / 2 + 1e-6).all()
    np.testing.assert_allclose(np.abs(found).max(axis=0), np.abs(weights).max(axis=0), rtol=1e-6)
    np.testing.assert_allclose(fake_quantized(found, 0, bits), found, atol=1e-6)
    np.testing.assert_array_equal(fake_quantized(np.zeros((2, 2)), 1, bits), np.zeros((2, 2)))


def test_the_gradient_goes_to_the_weights_behind():
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
    inputs = np.random.default_rng(1).normal(size=(8, 64)).astype("float32")
    kernel, bias = (np.array(weight) for weight in model.weights)
    rounded = np.array(fake_quantized(kernel, 0, 4))
    outputs = inputs @ rounded
    # of mean squares: dL/dW = 2 xᵀ (x ŵ) / n, as if the rounding was not there
    gradient = 2 * inputs.T @ outputs / outputs.size
    with pytest.raises(InterruptedError), quantization_aware(model, bits=4):
        model.compile(keras.optimizers.SGD(1.0), "mse")
        np.testing.assert_allclose(model.predict(inputs, verbose=0), outputs, atol=1e-5)
        model.fit(inputs, np.zeros_like(outputs), batch_size=8, verbose=0)
        np.testing.assert_allclose(model.layers[0].kernel, kernel - gradient, atol=1e-5)
        assert np.abs(np.array(model.layers[0].bias) - bias).max() > 0
        raise InterruptedError  # the weights behind stay as they are
    np.testing.assert_allclose(model.layers[0].kernel, kernel - gradient, atol=1e-5)
    plain = inputs @ np.array(model.layers[0].kernel) + np.array(model.layers[0].bias)
    np.testing.assert_allclose(model.predict(inputs, verbose=0), plain, atol=1e-4)


def test_accuracy_in_4_bits_rises():
    """It falls where one weight of each output is so large that the others round to zero."""
    keras.utils.set_random_seed(0)
    labels = np.arange(256) % 16
    inputs = np.random.default_rng(0).normal(size=(16, 32))[labels]
    inputs = (inputs + np.random.default_rng(1).normal(size=(256, 32))).astype("float32")
    inputs[:, 0] = 0  # the large weights change nothing but the scale of the others
    hidden = keras.layers.Dense(64, activation="tanh")
    model = keras.Sequential([keras.Input((32,)), hidden, keras.layers.Dense(16)])
    kernel = np.array(hidden.kernel)
    kernel[0] = 8
    hidden.kernel.assign(kernel)

    def train(rate):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(rate), loss)
        model.fit(inputs, labels, batch_size=64, epochs=20, verbose=0)

    def accuracy():
        return np.mean(model.predict(inputs, verbose=0).argmax(axis=-1) == labels)

    train(0.003)
    learned = model.get_weights()
    assert accuracy() > 0.9
    with quantization_aware(model, bits=4):
        before = accuracy()
    assert accuracy() == before < 0.3  # the weights are the rounded ones now

    model.set_weights(learned)
    with quantization_aware(model, bits=4):
        train(0.02)
        inside = accuracy()
    assert accuracy() == inside > before + 0.5
    assert not any("call" in vars(layer) for layer in model.layers)
    np.testing.assert_allclose(fake_quantized(hidden.kernel, 0, 4), hidden.kernel, atol=1e-6)


def test_bits_by_layer(classifier):
    before = {weight.path: np.array(weight) for weight in classifier.weights}
    with quantization_aware(classifier, bits={"token_embedding": 4, "feed_forward/output": 8}):
        pass
    changed = {
        "/".join(weight.path.split("/")[-3:-1])
        for weight in classifier.weights
        if np.abs(np.array(weight) - before[weight.path]).max() > 0
    }
    assert {name.split("/", 1)[1] for name in changed} == {"token_embedding", "output"}
    assert "feed_forward/output" in changed


def test_what_cannot_be_rounded_is_refused(classifier):
    with (
        pytest.raises(ValueError, match=r"bits must be one of \(4, 8\)"),
        quantization_aware(classifier, bits=2),
    ):
        pass
    with (
        pytest.raises(ValueError, match="no layer of 1024 weights and more fits"),
        quantization_aware(classifier, bits={"nothing": 8}),
    ):
        pass
    with (
        quantization_aware(classifier),
        pytest.raises(ValueError, match="in another quantization_aware already"),
        quantization_aware(classifier),
    ):
        pass
