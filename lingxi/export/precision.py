"""The same task in another number format."""

import keras


def in_precision(task, precision):
    """`task` itself if its backbone computes in `precision`, else a copy whose backbone does."""
    if task.backbone.compute_dtype == precision:
        return task
    backbone = type(task.backbone).from_config(
        {**task.backbone.get_config(), "dtype": keras.DTypePolicy(precision)}
    )
    config = {**task.get_config(), "backbone": backbone}
    if "tokenizer" in config:
        config["tokenizer"] = task.tokenizer
    copy = type(task)(**config)
    copy.set_weights(task.get_weights())
    return copy
