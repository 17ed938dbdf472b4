"""Opening a trained task, whichever it is."""

import importlib
import json

from lingxi.zoo import preset
from lingxi.zoo.huggingface import embedder

TASKS = {  # class: its module in `lingxi.tasks`, and its architectures in `transformers`
    "FeatureMatcher": ("feature_matcher", ("LoFTR",)),
    "MaskedLanguageModel": ("masked_language_model", ("ForMaskedLM", "ForPreTraining")),
    "MultiTask": ("multi_task", ()),
    "QuestionAnswerer": ("question_answerer", ("ForQuestionAnswering",)),
    "SpanLanguageModel": ("span_language_model", ()),
    "Summarizer": ("summarizer", ("BartForConditionalGeneration",)),
    "TextClassifier": ("text_classifier", ("ForSequenceClassification",)),
    "TextEmbedder": ("text_embedder", ()),
    "TextGenerator": ("text_generator", ("LMHeadModel", "ForCausalLM")),
    "TextRegressor": ("text_regressor", ()),
    "TokenClassifier": ("token_classifier", ("ForTokenClassification",)),
    "Translator": ("translator", ("MarianMTModel",)),
}


def task_class(name):
    """The class of that name, such as "TextClassifier"."""
    return getattr(importlib.import_module(f"lingxi.tasks.{TASKS[name][0]}"), name)


def load(name, **kwargs):
    """The trained task of a directory that `save_preset`, or `transformers`, wrote.

    Args:
        name: as in the `from_preset` of the tasks.
        kwargs: of that `from_preset`.

    Raises:
        FileNotFoundError: no such directory, or no model in it.
        ValueError: the directory says of no task that it is trained for it.
    """
    directory = preset.resolve(name)
    return task_class(_task_in(directory)).from_preset(str(name), **kwargs)


def _task_in(directory):
    path = directory / preset.CONFIG_NAME
    if not path.is_file():
        raise FileNotFoundError(f"no {preset.CONFIG_NAME} in {directory}, so it is no trained task")
    config = json.loads(path.read_text("utf-8"))
    own = config.get("lingxi", {}).get("task")
    if own in TASKS:
        return own
    if (directory / embedder.MODULES_NAME).is_file():
        return "TextEmbedder"
    if config.get("problem_type") == "regression":
        return "TextRegressor"
    architectures = tuple(config.get("architectures") or ())
    for task, (_, endings) in TASKS.items():
        if any(name.endswith(endings) for name in architectures if endings):
            return task
    raise ValueError(
        f"{directory} has the architectures {list(architectures)}, which tell no task; open it by "
        f"the from_preset of one of {', '.join(TASKS)}"
    )
