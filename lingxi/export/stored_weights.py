"""How a SavedModel holds weights: as variables or in its graph, as they are or in int8."""

import contextlib
import functools

import keras
import numpy as np
import tensorflow as tf

from lingxi.export.precision import INT8_WEIGHTS
from lingxi.layers import TokenEmbedding, replaced_lookups

MIN_SIZE = 1024  # numbers of a matrix that becomes int8
MAX_GRAPH = 2**31 - 2**24  # bytes: protocol buffers end at 2 GiB, and the graph has more than these


class StoredWeights:
    """The weights of tasks, stored once for all functions that are traced with them in place.

    With "int8_weights" kernels and embedding tables are int8 with a float32 scale for each output
    channel, or each row of a table, and the graph multiplies them out; a token embedding reads
    int8 rows. In the graph ("cpu") they are constants of one function that all others call: there
    TensorFlow fuses and packs them, wherever that is inlined.

    Args:
        tasks: whose functions are traced.
        precision, target: as of `lingxi.export.saved_model`.

    Attributes:
        variables: what TensorFlow is to track.

    Raises:
        ValueError: they are too large for a graph.
    """

    def __init__(self, tasks, precision, target):
        weights = _distinct(weight for task in tasks for weight in task.weights)
        quantized = set()
        if precision == INT8_WEIGHTS:
            backbones = _distinct(task.backbone for task in tasks)
            quantized = {
                id(weight) for model in backbones for weight in model.weights if _is_large(weight)
            }
        self._token_embeddings = {
            id(layer.embeddings): layer
            for task in tasks
            for layer in task._flatten_layers()
            if isinstance(layer, TokenEmbedding)
        }
        in_graph = target == "cpu"
        self._replaced = [w for w in weights if in_graph or id(w) in quantized]
        self.variables = [w.value for w in weights if not (in_graph or id(w) in quantized)]
        parts = [in_int8(w) if id(w) in quantized else (w.numpy(),) for w in self._replaced]
        if in_graph:
            _check_size(parts)
            self._read = tf.function(lambda: self._made(tf.constant, parts), autograph=False)
        else:
            variables = self._made(functools.partial(tf.Variable, trainable=False), parts)
            self.variables += [part for own in variables for part in own]
            self._read = lambda: variables

    def _made(self, make, parts):
        named = zip(self._replaced, parts, strict=True)
        return [[make(part, name=weight.path) for part in own] for weight, own in named]

    @contextlib.contextmanager
    def in_place(self):
        """Within it, what is traced reads these weights."""
        values, lookups = [], {}
        for weight, parts in zip(self._replaced, self._read(), strict=True):
            values.append((weight, _floats(*parts)))
            if len(parts) == 2 and id(weight) in self._token_embeddings:
                lookups[self._token_embeddings[id(weight)]] = functools.partial(_rows, *parts)
        with keras.StatelessScope(values), replaced_lookups(lookups):
            yield


def in_int8(weight):
    """A weight as int8 and the float32 scale of each output channel, or of each row of a table."""
    values = np.asarray(weight.numpy(), "float32")
    axes = -1 if weight.name == "embeddings" else tuple(range(values.ndim - 1))
    scale = np.abs(values).max(axis=axes, keepdims=True) / 127
    scale[scale == 0] = 1
    return np.round(values / scale).astype("int8"), scale


def _is_large(weight):
    if weight.name not in ("kernel", "embeddings") or len(weight.shape) < 2:
        return False
    return np.prod(weight.shape) >= MIN_SIZE


def _floats(values, scale=None):
    return values if scale is None else tf.cast(values, scale.dtype) * scale


def _rows(table, scale, token_ids):
    """Embeddings `[batch, seq, hidden]` of an int8 table `[vocab, hidden]`."""
    return _floats(tf.gather(table, token_ids), tf.gather(scale, token_ids))


def _distinct(objects):
    return list({id(one): one for one in objects}.values())


def _check_size(parts):
    size = sum(part.nbytes for own in parts for part in own)
    if size > MAX_GRAPH:
        raise ValueError(
            f'target="cpu" stores the weights in the graph, which holds {MAX_GRAPH / 1e9:.2f} GB; '
            f"these have {size / 1e9:.2f} GB. Choose target=None, or a precision with fewer bytes"
        )
