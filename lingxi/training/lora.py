"""Low-rank adaptation: few weights learn beside many that are frozen (Hu et al. 2021)."""

import math
import re

import keras
from keras import ops

from lingxi.training.interception import forget_graphs

ATTENTION = "attention/(query|key_value)"  # `query_key_value` of self-attention, too
POOLER = "pooler"


def add_lora(task, rank=8, alpha=16, pattern=ATTENTION, others=POOLER):
    """Have dense layers learn by two thin matrices each; the rest of the backbone is frozen.

    `h = x (W + α/r · A B) + b` with `A` `[in, r]` at random and `B` `[r, out]` of zeros: at first
    nothing has changed. `lingxi.layers` projects query, key and value by one fused product, whose
    `A` they share. What stands on the backbone, the head of a task, goes on learning whole. The
    optimizer keeps its state for what learns only; the products of a step stay the same. Compile
    a task that was compiled by hand anew.

    `save_preset`, `.keras` and TFLite files have the merged weights by themselves; before a
    SavedModel, or after mixed precision, call `merge_lora`. Houlsby's adapters (2019) cannot be
    merged, so that every artifact would have to carry them.

    Args:
        task: a task of `lingxi.tasks`, or a model of `lingxi.zoo`; it is changed in place.
        rank: r.
        alpha: α.
        pattern: a regular expression that the path of a layer has in it, such as
            "attention/|feed_forward/" for all of every block.
        others: a regular expression of further weights of the backbone that learn, whole. By
            default the pooler, where a task reads it.

    Returns:
        How many parameters of `task` learn.

    Raises:
        ValueError: no dense layer has such a path; or one has learned so already.
    """
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")
    backbone = getattr(task, "backbone", task)
    dense = [x for x in backbone._flatten_layers() if isinstance(x, keras.layers.Dense)]
    adapted = [layer for layer in dense if re.search(pattern, layer.path)]
    if not adapted:
        known = ", ".join(layer.path for layer in dense)
        raise ValueError(f"no dense layer has {pattern!r} in its path; there are {known}")
    if lora_layers(backbone):
        raise ValueError("this model has LoRA already: call merge_lora before it gets another")
    for variable in backbone.trainable_variables:
        variable.trainable = re.search(others, variable.path) is not None
    for layer in adapted:
        layer.enable_lora(rank, lora_alpha=alpha)
    forget_graphs(task)
    return sum(math.prod(variable.shape) for variable in task.trainable_variables)


def lora_layers(model):
    """The layers of a task or model that learn by LoRA, not merged yet."""
    return [layer for layer in model._flatten_layers() if getattr(layer, "lora_enabled", False)]


def merge_lora(task):
    """Fold what was learned into the kernels, `W + α/r · A B`: the model is an ordinary one again.

    Its outputs are the same, and all of it may learn again, but for layers that are frozen
    themselves (`layer.trainable = False`).

    Args:
        task: what `add_lora` was called with; it is changed in place.

    Raises:
        ValueError: it has no LoRA.
    """
    backbone = getattr(task, "backbone", task)
    adapted = lora_layers(backbone)
    if not adapted:
        raise ValueError("this model has no LoRA to merge; add_lora adds it")
    for layer in adapted:
        update = ops.matmul(layer.lora_kernel_a, layer.lora_kernel_b)
        layer._kernel.assign_add((layer.lora_alpha / layer.lora_rank) * update)
        layer.lora_enabled, layer.lora_rank, layer.lora_alpha = False, None, None
        del layer.lora_kernel_a, layer.lora_kernel_b
    for layer in backbone._flatten_layers():
        for variable in layer._trainable_variables:
            variable.trainable = layer.trainable
    forget_graphs(task)
