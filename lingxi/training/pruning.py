"""Smaller models out of trained ones: fewer weights, fewer heads, fewer feed-forward units."""

import contextlib
import dataclasses
import functools
import re

import keras
import numpy as np
import tensorflow as tf

from lingxi.training.interception import intercepted
from lingxi.training.lora import lora_layers

KERNELS = r"block_\d+/.*/kernel$"
PARTS = ("heads", "units")


class MagnitudePruning(keras.callbacks.Callback):
    """While it trains, more and more of a model's smallest weights become zero, and stay it.

    After step `t` the share `s + (s₀ − s) (1 − (t − t₀) / (t₁ − t₀))³` of each kernel, its smallest
    weights, are zeros (Zhu & Gupta 2017, equation 1). The optimizer itself puts the zeros back
    after each of its steps, so they stay whatever its momentum says. Files grow no smaller by zeros
    among other weights, unless they are compressed; `prune_heads` and `prune_units` remove columns.
    A later `fit` without this callback brings the zeros to life again.

    Args:
        sparsity: s, the share of zeros at the end.
        begin, end: t₀ and t₁, in steps; by default the first step and three quarters of all.
        every: steps between two changes.
        initial: s₀.
        pattern: a regular expression that the path of a kernel has in it.

    Raises:
        ValueError: shares that are not `0 <= initial <= sparsity < 1`, or a schedule without steps;
            when the training begins, no such kernel. NotImplementedError: then, on another backend
            than TensorFlow.
    """

    def __init__(
        self, sparsity=0.5, begin=0, end=None, every=20, initial=0.0, pattern=KERNELS, **kwargs
    ):
        super().__init__(**kwargs)
        if not 0.0 <= initial <= sparsity < 1.0:
            raise ValueError(
                f"need 0 <= initial <= sparsity < 1, got initial={initial}, sparsity={sparsity}"
            )
        if begin < 0 or every < 1 or (end is not None and end <= begin):
            raise ValueError(
                f"need 0 <= begin < end and every >= 1, got {begin}, {end} and {every}"
            )
        self.sparsity = sparsity
        self.initial = initial
        self.begin = begin
        self.end = end
        self.every = every
        self.pattern = pattern

    def share_at(self, step):
        """The share of zeros after so many steps; 0 before the first change."""
        if step < self.begin:
            return 0.0
        left = 1.0 - min((step - self.begin) / (self._last - self.begin), 1.0)
        return self.sparsity + (self.initial - self.sparsity) * left**3

    @property
    def _last(self):
        if self.end is not None:
            return self.end
        steps = (self.params or {}).get("steps")
        if steps is None:
            raise ValueError("the number of steps is not known: pass end=…, in steps")
        return max(self.begin + 1, round(0.75 * steps * self.params["epochs"]))

    def on_train_begin(self, logs=None):
        if keras.backend.backend() != "tensorflow":
            raise NotImplementedError(
                "MagnitudePruning needs the TensorFlow backend, but Keras runs on "
                f"{keras.backend.backend()}: set KERAS_BACKEND=tensorflow, or train without it"
            )
        kernels = [v for v in self.model.trainable_variables if re.search(self.pattern, v.path)]
        if not kernels:
            raise ValueError(f"no weight that learns has {self.pattern!r} in its path")
        for kernel in kernels:
            kernel.constraint = Mask(kernel)
        self._kernels = kernels
        self._first = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        self._changed = 0
        self.model.make_train_function(force=True)

    def on_train_batch_end(self, batch, logs=None):
        step = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations)) - self._first
        changes = min(step, self._last) // self.every + (step >= self._last)
        if step >= self.begin and changes > self._changed:
            self._changed = changes
            for kernel in self._kernels:
                kernel.constraint.prune(kernel, self.share_at(step))

    def on_train_end(self, logs=None):
        for kernel in self._kernels:
            kernel.constraint = None
        self.model.train_function = None

    # Of a training that goes on where it was killed

    def get_state(self):
        return {"first": self._first, "changed": self._changed}

    def set_state(self, state):
        self._first, self._changed = state["first"], state["changed"]
        if self._changed:
            for kernel in self._kernels:
                kernel.constraint.keep_zeros(kernel)


class Mask(keras.constraints.Constraint):
    """Which weights of a kernel may be other than zero: all, at first."""

    def __init__(self, kernel):
        self.mask = keras.Variable(
            np.ones(kernel.shape, "bool"), dtype="bool", trainable=False, name="mask"
        )

    def __call__(self, kernel):
        return kernel * keras.ops.cast(self.mask, kernel.dtype)

    def prune(self, kernel, share):
        """Make this share of the weights zero, the smallest."""
        size = np.abs(keras.ops.convert_to_numpy(kernel)).ravel()
        mask = np.ones(size.shape, "bool")
        count = round(share * size.size)
        if count:
            mask[np.argpartition(size, count - 1)[:count]] = False
        self.mask.assign(mask.reshape(kernel.shape))
        kernel.assign(self(kernel))

    def keep_zeros(self, kernel):
        """Take the mask from the zeros that there are."""
        self.mask.assign(keras.ops.convert_to_numpy(kernel) != 0)


def importance(task, data, part="heads", batch_size=None):
    """How much the loss depends on each head, or on each unit of the feed-forward networks.

    `I = E |x · ∂L/∂x|` of what one puts into the product after it, which is `E |∂L/∂ξ|` for a gate
    `ξ = 1` on it (Michel et al. 2019, equation 2), divided by the L2 norm in its block, as there.

    Args:
        task: a trained task on a `lingxi.zoo.Bert`, or a `MultiTask`.
        data: `(x, y)` as `fit` takes them, or a `tf.data.Dataset` of batches of tokenized inputs
            and targets, such as `masked_batches` of a `MaskedLanguageModel` gives; of a `MultiTask`
            `{name: data}`, whose examples count alike. Some hundred examples are enough.
        part: "heads" or "units".
        batch_size: examples a step.

    Returns:
        float32 `[blocks, heads]`, or `[blocks, units]`.
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {PARTS}, got {part!r}")
    _check_encoder(task)
    total, examples = 0.0, 0
    for each, batches in _tasks_and_batches(task, data, batch_size):
        found, count = _dependence(each, batches, part)
        total, examples = total + found, examples + count
    if not examples:
        raise ValueError("got no examples; the importance needs some, a few hundred are enough")
    norms = np.linalg.norm(total, axis=1, keepdims=True)
    return total / np.where(norms > 0, norms, 1.0)


def _tasks_and_batches(task, data, batch_size):
    """A task, or each of a `MultiTask` that has data, with its batches."""
    if hasattr(task, "tasks"):
        datasets = task._datasets(data, "train", batch_size, "given")
        return [(task[name], dataset) for name, dataset in datasets.items()]
    if not isinstance(data, tf.data.Dataset):
        data = task._batches(*data, batch_size, "given")["x"]
    return [(task, data)]


def _dependence(task, batches, part):
    """`Σ |∂L/∂ξ|` over examples, float32 `[blocks, heads]` or `[blocks, units]`; their number."""
    if not task.compiled:
        task.compile()
        task._compiled_by_default = True
    task.compute_loss(None, *task.metrics_example())  # makes its variables, outside of the graph
    blocks = task.backbone.blocks
    count = _count(task.backbone.config, part)

    @tf.function(reduce_retracing=True, autograph=False)
    def gradients(x, y, sample_weight):
        batch = tf.shape(x["token_ids"])[0]
        gates = [tf.ones([batch, count]) for _ in blocks]
        with tf.GradientTape() as tape:
            tape.watch(gates)
            outputs = _gated(task, part, gates, x)
            loss = task.compute_loss(x, y, outputs, sample_weight, training=False)
        of_gates = tape.gradient(loss, gates)  # [batch, heads] of each block
        total = tf.stack([tf.reduce_sum(tf.abs(g), axis=0) for g in of_gates])
        return total * tf.cast(batch, tf.float32), batch  # the loss is a mean over the batch

    total, examples = np.zeros((len(blocks), count), "float32"), 0
    for batch in batches:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        found, size = gradients(x, y, sample_weight)
        total, examples = total + found.numpy(), examples + int(size)
    return total, examples


def prune_heads(task, share, data, batch_size=None):
    """A new task without this share of the heads of every block, those of least importance.

    What is left is dense and truly smaller: `W_Q, W_K, W_V` lose columns, `W_O` loses rows. Its
    outputs are those of `task` with nothing from the heads that are gone. Each block loses as many,
    so that one number says how many there are. `save_preset` writes what lingxi reads;
    `transformers` has no such encoders. Fine-tune it again for an epoch.

    Args:
        task: a trained task on a `lingxi.zoo.Bert`, or a `MultiTask`; it is left as it is.
        share: of the heads of a block, from 0 to less than 1; one is left in any case.
        data, batch_size: see `importance`.
    """
    return _without(task, "heads", share, data, batch_size)


def prune_units(task, share, data, batch_size=None):
    """A new task without this share of the units of every feed-forward network.

    As `prune_heads`; `W₁` loses columns, `W₂` loses rows, and `transformers` reads what
    `save_preset` and `lingxi.export.huggingface` write.
    """
    return _without(task, "units", share, data, batch_size)


def _without(task, part, share, data, batch_size):
    if not 0.0 <= share < 1.0:
        raise ValueError(f"share must be from 0 to less than 1, got {share}")
    found = importance(task, data, part, batch_size)
    left = max(1, round((1.0 - share) * found.shape[1]))
    best = np.argsort(-found, axis=1, kind="stable")[:, :left]
    return keep_only(task, part, np.sort(best, axis=1))


def keep_only(task, part, kept):
    """A new task with only these heads, or units, of each block.

    Args:
        task: on a `lingxi.zoo.Bert`; it is left as it is.
        part: "heads" or "units".
        kept: their numbers, int `[blocks, kept]`.
    """
    _check_encoder(task)
    backbone, left = task.backbone, np.shape(kept)[1]
    config = backbone.config
    if part == "heads":
        head_dim = config.attention_dim // config.num_heads
        smaller = dataclasses.replace(config, num_heads=left, head_dim=head_dim)
    else:
        smaller = dataclasses.replace(config, intermediate_dim=left)
    settings = {**backbone.get_config(), "config": dataclasses.asdict(smaller)}
    pruned = task.over(type(backbone).from_config(settings))
    count = _count(config, part)
    sliced = {}  # path of a variable: its value
    for block, numbers in zip(backbone.blocks, kept, strict=True):
        first, last = _products(block, part)
        for variable in first.weights:  # [in, 3, heads, head_dim], or [in, units]
            value = keras.ops.convert_to_numpy(variable)
            shape = (*value.shape[:-1], 3, count, -1) if part == "heads" else value.shape
            axis = -2 if part == "heads" else -1
            value = np.take(value.reshape(shape), numbers, axis)
            sliced[variable.path] = value.reshape(*variable.shape[:-1], -1)
        value = keras.ops.convert_to_numpy(last.kernel)
        value = value.reshape(count, -1, value.shape[-1])[numbers]  # [heads, head_dim, out]
        sliced[last.kernel.path] = value.reshape(-1, value.shape[-1])
    for old, new in zip(backbone.weights, pruned.backbone.weights, strict=True):
        new.assign(sliced.get(old.path, old))
    return pruned


def _products(block, part):
    """The product that makes the heads, or units, of a block, and the one that reads them."""
    if part == "heads":
        return block.attention.query_key_value_dense, block.attention.output_dense
    return block.feed_forward.intermediate_dense, block.feed_forward.output_dense


def _count(config, part):
    return config.num_heads if part == "heads" else config.intermediate_dim


def _gated(task, part, gates, x):
    """The outputs of a task whose heads, or units, are multiplied by their gates `[batch, n]`."""

    def run(gate, call, inputs, **kwargs):
        batch, length, width = keras.ops.shape(inputs)
        count = gate.shape[1]
        split = tf.reshape(inputs, [batch, length, count, width // count])
        gate = tf.reshape(tf.cast(gate, inputs.dtype), [batch, 1, count, 1])
        return call(tf.reshape(split * gate, [batch, length, width]), **kwargs)

    with contextlib.ExitStack() as stack:
        for block, gate in zip(task.backbone.blocks, gates, strict=True):
            _, last = _products(block, part)
            stack.enter_context(intercepted(last, functools.partial(run, gate)))
        return task(x, training=False)


def _check_encoder(task):
    config = task.backbone.config
    if not hasattr(config, "attention_dim"):
        raise TypeError(
            "heads and units are removed from encoders of lingxi.zoo.Bert, got a "
            f"{type(task.backbone).__name__}"
        )
    if lora_layers(task.backbone):
        raise ValueError("call merge_lora before heads or units are removed")
