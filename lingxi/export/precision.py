"""The same task in another number format."""

import keras

from lingxi.training import lora_layers

INT8_WEIGHTS = "int8_weights"  # computes in float32


def in_precision(task, precision):
    """`task` itself if its backbone computes in `precision`, else a copy whose backbone does.

    Raises:
        ValueError: the weights of a LoRA are not merged, which a copy would not have, nor int8.
    """
    computed = "float32" if precision == INT8_WEIGHTS else precision
    if precision == task.backbone.compute_dtype:
        return task
    if lora_layers(task):
        raise ValueError(
            f"this task has LoRA, and its backbone computes in {task.backbone.compute_dtype}: call "
            f"lingxi.training.merge_lora(task) before it is exported in {precision}"
        )
    if computed == task.backbone.compute_dtype:
        return task
    backbone = type(task.backbone).from_config(
        {**task.backbone.get_config(), "dtype": keras.DTypePolicy(computed)}
    )
    config = {**task.get_config(), "backbone": backbone}
    if "tokenizer" in config:
        config["tokenizer"] = task.tokenizer
    copy = type(task)(**config)
    copy.set_weights(task.get_weights())
    return copy
