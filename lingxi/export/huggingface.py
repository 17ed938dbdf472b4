"""Hugging Face: a directory that the Auto classes of `transformers` load."""


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
    model_or_task.save_preset(directory)
