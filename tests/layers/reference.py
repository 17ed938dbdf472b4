"""The papers' formulas in NumPy, and what differs between backends."""

import math

import keras
import numpy as np

numpy = keras.ops.convert_to_numpy
QUICK = keras.backend.backend() != "tensorflow"  # JAX compiles every operation for every shape
erf = np.vectorize(math.erf, otypes=["float64"])


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def randomize(layer, seed=0):
    """Give every weight a random value: zeros and ones would hide a bias or a scale."""
    generator = np.random.default_rng(seed)
    for weight in layer.weights:
        if "seed_generator" not in weight.path:
            weight.assign(generator.normal(0, 0.5, weight.shape))
    return layer


def values(layer):
    """The layer's own weights as float64 arrays, by name."""
    return {weight.name: numpy(weight).astype("float64") for weight in layer.weights}


def dense(layer, x):
    weights = values(layer)
    return x @ weights["kernel"] + weights.get("bias", 0.0)


def gelu(x):
    return x * 0.5 * (1 + erf(x / math.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def layer_norm(layer, x):
    weights = values(layer)
    centered = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centered**2).mean(-1, keepdims=True) + layer.epsilon)
    return centered / deviation * weights["gamma"] + weights["beta"]


def heads(x, num_heads):
    batch, length, width = x.shape
    return x.reshape(batch, length, num_heads, width // num_heads).transpose(0, 2, 1, 3)


def attention(layer, x, context=None, allowed=None):
    """Outputs and weights; `allowed` is bool, broadcastable to `[batch, heads, query, key]`."""
    if layer.cross:
        query = dense(layer.query_dense, x)
        key, value = np.split(dense(layer.key_value_dense, context), 2, axis=-1)
    else:
        query, key, value = np.split(dense(layer.query_key_value_dense, x), 3, axis=-1)
    query, key, value = (heads(part, layer.num_heads) for part in (query, key, value))
    scores = query @ key.swapaxes(-1, -2) / math.sqrt(query.shape[-1])
    if allowed is not None:
        scores = np.where(allowed, scores, -1e9)
    weights = softmax(scores)
    mixed = (weights @ value).transpose(0, 2, 1, 3).reshape(*x.shape[:2], layer.hidden_dim)
    return dense(layer.output_dense, mixed), weights


def feed_forward(layer, x):
    inner = ACTIVATIONS[layer.get_config()["activation"]](dense(layer.intermediate_dense, x))
    return dense(layer.output_dense, inner)


def transformer_block(layer, x, allowed=None):
    if layer.norm_first:
        x = x + attention(layer.attention, layer_norm(layer.attention_norm, x), None, allowed)[0]
        return x + feed_forward(layer.feed_forward, layer_norm(layer.feed_forward_norm, x))
    x = layer_norm(layer.attention_norm, x + attention(layer.attention, x, None, allowed)[0])
    return layer_norm(layer.feed_forward_norm, x + feed_forward(layer.feed_forward, x))


def gradients(layer, *args, **kwargs):
    """Gradients of the mean square of the outputs, one array for each trainable weight."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(layer(*args, **kwargs)))
        variables = [weight.value for weight in layer.trainable_weights]
        return [numpy(tf.convert_to_tensor(g)) for g in tape.gradient(loss, variables)]
    if keras.backend.backend() == "jax":
        import jax

        fixed = [weight.value for weight in layer.non_trainable_variables]

        def loss(trained):
            outputs, _ = layer.stateless_call(trained, fixed, *args, **kwargs)
            return keras.ops.mean(keras.ops.square(outputs))

        trained = [weight.value for weight in layer.trainable_variables]
        return [numpy(g) for g in jax.grad(loss)(trained)]
    raise NotImplementedError(keras.backend.backend())
