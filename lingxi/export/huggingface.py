"""Hugging Face: a directory that the Auto classes of `transformers` load."""

from lingxi.zoo import Bert


def huggingface(model_or_task, directory):
    """Write a model or a task as `transformers` reads it, with the same outputs.

    It is what `save_preset` writes, so `from_preset` reads it too.

    Args:
        model_or_task: a model of `lingxi.zoo`: `config.json` and `model.safetensors`; or a task:
            also the files of its tokenizer.
        directory: appears only when it is complete; an older model there is replaced.

    Raises:
        TypeError: neither a model nor a task.
        ValueError: Hugging Face cannot express this model.
        OSError: naming `directory`, when it cannot be written or holds something else.
    """
    if not hasattr(model_or_task, "save_preset"):
        raise TypeError(
            "expected a model of lingxi.zoo or a task of lingxi.tasks, "
            f"got {type(model_or_task).__name__}"
        )
    backbone = getattr(model_or_task, "backbone", model_or_task)
    if isinstance(backbone, Bert) and backbone.config.head_dim is not None:
        c = backbone.config
        raise ValueError(
            f"this encoder has {c.num_heads} heads of {c.head_dim} in a width of {c.hidden_dim}, "
            "since others were removed; transformers has no such model, but save_preset writes it "
            "for lingxi"
        )
    model_or_task.save_preset(directory)
