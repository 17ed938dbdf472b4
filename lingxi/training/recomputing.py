"""Longer texts and larger batches in the same memory, for a third more work."""

import contextlib
import functools

import keras
from keras import ops

from lingxi.layers import TransformerBlock
from lingxi.training.gradients import inner_scope
from lingxi.training.interception import forget_graphs, intercepted
from lingxi.training.technique import dropout_states


@contextlib.contextmanager
def recomputed(model):
    """Within, blocks keep their inputs only, and compute the rest again for their gradients.

    Gradient checkpointing (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"): what
    a step keeps of each block falls from some twenty tensors `[batch, seq, hidden]`, and the
    attention weights, to one. Dropout is drawn once, so the training is the same, up to
    rounding in low precision.

        with training.recomputed(classifier):
            classifier.fit(texts, labels)

    Args:
        model: a task or an architecture made of `lingxi.layers.TransformerBlock`.

    Raises:
        ValueError: the model has no such block.
    """
    blocks = [part for part in model._flatten_layers() if isinstance(part, TransformerBlock)]
    if not blocks:
        raise ValueError(f"a {type(model).__name__} has no TransformerBlock to compute again")
    forget_graphs(model)
    try:
        with contextlib.ExitStack() as stack:
            for block in blocks:
                stack.enter_context(intercepted(block, functools.partial(_twice, block)))
            yield
    finally:
        forget_graphs(model)


def _twice(block, call, inputs, training=None, **kwargs):
    """`call(inputs, …)` of a block, which runs again when its gradients are computed."""
    if not training:
        return call(inputs, training=training, **kwargs)
    floats = {  # those besides the inputs that have gradients, such as a context
        name: value
        for name, value in kwargs.items()
        if ops.is_tensor(value) and keras.backend.is_float_dtype(value.dtype)
    }
    others = {name: value for name, value in kwargs.items() if name not in floats}
    states = dropout_states(block)
    seeds = [(state, ops.copy(state.value)) for state in states]

    def run(inputs, *values):
        with inner_scope() as scope:
            for seed in seeds:  # the same dropout both times
                scope.add_update(seed)
            options = {**others, **dict(zip(floats, values, strict=True))}
            outputs = call(inputs, training=True, **options)
        return outputs, [scope.get_current_value(state) for state in states]

    outputs, drawn = keras.remat(run)(inputs, *floats.values())
    for state, value in zip(states, drawn, strict=True):
        state.assign(value)
    return outputs
