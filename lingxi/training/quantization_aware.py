"""Training that knows how its weights will be rounded (Jacob et al. 2018, section 3)."""

import contextlib
import functools

import keras
from keras import ops

from lingxi.layers import PositionEmbedding, SegmentEmbedding
from lingxi.training.interception import forget_graphs

BITS = (4, 8)
FEWEST_WEIGHTS = 1024  # of a layer; `lingxi.export.tflite` leaves fewer in float32
ROUNDED = (  # layer, its weight, the axis along which one scale holds
    (keras.layers.Dense, "kernel", 0),
    (SegmentEmbedding, "embeddings", 0),  # multiplies, as a dense layer does
    (keras.layers.Embedding, "embeddings", 1),
    (PositionEmbedding, "embeddings", 1),
)
METHODS = ("call", "logits")  # of a layer: what reads the weight


@contextlib.contextmanager
def quantization_aware(model, bits=8):
    """Inside it, `model` computes with rounded weights, and learns the ones behind them.

    ```
    with lingxi.training.quantization_aware(classifier, bits=4):
        classifier.fit(texts, labels, epochs=1)
    lingxi.export.tflite(classifier, "comments.tflite", quantize="int4")
    ```

    `ŵ = s · round(w / s)` with `s = max |w| / (2^(bits − 1) − 1)` for each output of a dense layer
    and each row of an embedding table; the gradient of `ŵ` goes to `w` as if nothing was rounded
    (the straight-through estimator of Bengio et al. 2013). At the end the weights are the rounded
    ones: quantized to as many bits (8: "int8_weights", 4: "int4") they lose nothing. If the block
    raises, they are as the training left them, unrounded.

    Layers of less than 1024 weights stay as they are, as in the export. Activations are not
    rounded, though "int8" and "int4" round them as they come, to 8 bits.

    Args:
        model: a built Keras model, such as a task.
        bits: 8 or 4, of all weights; or `{name: bits}` for layers whose path holds a name, such as
            `{"embedding": 4, "block_": 8}`; the first that fits counts, others stay as they are.

    Raises:
        ValueError: other bits; no layer fits; the block is inside another one.
    """
    rounded = _rounded_layers(model, bits)
    for layer, weight, axis, of_layer in rounded:
        for name in METHODS:
            if hasattr(layer, name):
                setattr(
                    layer, name, _with_rounded(getattr(layer, name), layer, weight, axis, of_layer)
                )
    forget_graphs(model)
    try:
        yield
        for _, weight, axis, of_layer in rounded:
            weight.assign(fake_quantized(weight, axis, of_layer))
    finally:
        for layer, *_ in rounded:
            for name in METHODS:
                if hasattr(layer, name):
                    delattr(layer, name)
        forget_graphs(model)


def fake_quantized(weights, axis, bits):
    """`ŵ`: weights rounded to the `bits` of a symmetric integer, as floats.

    Args:
        weights: `[rows, columns]`.
        axis: along which all have one scale.
        bits: of the integer, its sign included.
    """
    weights = ops.convert_to_tensor(weights)
    largest = ops.max(ops.abs(weights), axis=axis, keepdims=True)
    scale = ops.maximum(largest, 1e-9) / (2 ** (bits - 1) - 1)
    return ops.round(weights / scale) * scale


def _rounded_layers(model, bits):
    """`(layer, its weight, axis, bits)` of all layers to round."""
    settings = bits if isinstance(bits, dict) else {"": bits}
    if not settings or not set(settings.values()) <= set(BITS):
        raise ValueError(f"bits must be one of {BITS}, or {{name: bits}}; got {bits!r}")
    rounded = []
    for layer in model._flatten_layers(include_self=False):
        for kind, name, axis in ROUNDED:
            if not isinstance(layer, kind):
                continue
            weight = getattr(layer, name)
            if not isinstance(weight, keras.Variable):
                raise ValueError(f"{layer.path} computes its {name} (LoRA?): merge it first")
            own = next((own for part, own in settings.items() if part in layer.path), None)
            if own is not None and weight.shape[0] * weight.shape[1] >= FEWEST_WEIGHTS:
                rounded.append((layer, weight, axis, own))
            break
    if not rounded:
        raise ValueError(f"no layer of {FEWEST_WEIGHTS} weights and more fits bits={bits!r}")
    inside = [layer.path for layer, *_ in rounded if "call" in vars(layer)]
    if inside:
        raise ValueError(f"{inside[0]} is in another quantization_aware already; leave that first")
    return rounded


def _with_rounded(method, layer, weight, axis, bits):
    """A method of `layer` for which `weight` is rounded."""

    @functools.wraps(method)
    def call(*args, **kwargs):
        value = ops.convert_to_tensor(weight)
        rounding = ops.stop_gradient(fake_quantized(value, axis, bits) - value)
        values = [(other, other.value) for other in layer.variables if other is not weight]
        with keras.StatelessScope([(weight, value + rounding), *values]):
            return method(*args, **kwargs)

    return call
