"""Running an artifact from Python, with the verb of its task."""

import importlib
import pathlib
from collections.abc import Iterator

import numpy as np

from lingxi.answers.batches import BATCH_SIZE, split_pairs, stacked
from lingxi.answers.progress import progress
from lingxi.export import examples, metadata
from lingxi.text.checked import as_bytes

ARTIFACTS = {  # task in the metadata: module of `lingxi.export.artifacts`, and class
    "FeatureMatcher": ("feature_matcher", "ExportedFeatureMatcher"),
    "MaskedLanguageModel": ("masked_language_model", "ExportedMaskedLanguageModel"),
    "MultiTask": ("multi_task", "ExportedMultiTask"),
    "QuestionAnswerer": ("question_answerer", "ExportedQuestionAnswerer"),
    "SpanLanguageModel": ("span_language_model", "ExportedSpanLanguageModel"),
    "Summarizer": ("generation", "ExportedSummarizer"),
    "TextClassifier": ("text_classifier", "ExportedTextClassifier"),
    "TextEmbedder": ("text_embedder", "ExportedTextEmbedder"),
    "TextGenerator": ("generation", "ExportedTextGenerator"),
    "TextRegressor": ("text_regressor", "ExportedTextRegressor"),
    "TokenClassifier": ("token_classifier", "ExportedTokenClassifier"),
    "Translator": ("generation", "ExportedTranslator"),
}
RUNTIMES = {  # format: module of `lingxi.export`, and class
    "ONNX": ("onnx_graph", "OnnxGraph"),
    "SavedModel": ("saved_model_graph", "SavedModelGraph"),
    "TFLite": ("graphs", "TFLiteGraph"),
}


def load(path):
    """The artifact at `path`, with the verb of its task, such as `classify`.

    That of a `MultiTask` has one artifact for each head: `load(path)["names"].tag(texts)`.

    Args:
        path: a TFLite or ONNX file, the directory of one version of a SavedModel, or the directory
            of its versions (the highest is taken).

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: what is there was not written by lingxi, or was changed since.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no artifact at {path}")
    found = versions(path)
    path = found[max(found)] if found else path
    facts = metadata.read(path)
    if facts["task"] not in ARTIFACTS:
        raise ValueError(
            f"{path} is a {facts['task']}; this version of lingxi knows {', '.join(ARTIFACTS)}"
        )
    form = facts.get("format", "TFLite" if path.is_file() else "SavedModel")
    runtime, name = RUNTIMES[form]
    graph = getattr(importlib.import_module(f"lingxi.export.{runtime}"), name)
    return of_task(path, facts, graph(path, facts))


def of_task(path, facts, graph):
    """The `Artifact` of the task that `facts`, its metadata, name.

    Raises:
        ImportError: what is around its graph runs in TensorFlow, and that is not installed.
    """
    module, name = ARTIFACTS[facts["task"]]
    try:
        module = importlib.import_module(f"lingxi.export.artifacts.{module}")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{path} is a {facts['task']}, which takes more than a file's interpreter: {error}; "
            "pip install tensorflow-text keras"
        ) from error
    return getattr(module, name)(path, facts, graph)


def versions(directory):
    """`{number: path}` of the versions of a SavedModel in a directory."""
    if not directory.is_dir():
        return {}
    numbered = (p for p in directory.iterdir() if p.name.isascii() and p.name.isdigit())
    return {int(path.name): path for path in numbered}


class Artifact:
    """An exported task that takes texts or pairs of texts. A subclass adds the verb of its task.

    Attributes:
        path: of the file or directory.
        metadata: what it says of itself, a dict.
        graph: a `SavedModelGraph`, a `TFLiteGraph` or an `OnnxGraph`.
    """

    unit = "text"  # what it answers to, in messages

    def __init__(self, path, metadata, graph):
        self.path = path
        self.metadata = metadata
        self.graph = graph

    def batches(self, texts, batch_size=None, verbose=False, description="", run=None):
        """What `run`, by default that of the artifact, gives for each batch: a dict of arrays.

        Raises:
            TypeError: an item is no text.
            ValueError: pairs where it takes single texts, or the reverse.
        """
        first, second = split_pairs(texts)
        if (second is not None) != self.metadata["pairs"] and len(first):
            wanted = "pairs (text, pair)" if self.metadata["pairs"] else "single texts"
            raise ValueError(f"{self.path} was exported for {wanted}; got the other kind")
        first = as_bytes(first, "texts")
        second = None if second is None else as_bytes(second, "pairs")
        if second is not None and len(first) != len(second):
            raise ValueError(
                f"texts and pairs must be equally many, got {len(first)} texts and "
                f"{len(second)} pairs"
            )
        run, size = run or self.run, batch_size or BATCH_SIZE
        for step in progress(-(-len(first) // size), description, verbose):
            part = slice(step * size, (step + 1) * size)
            yield run(first[part], None if second is None else second[part])

    def run(self, texts, pairs=None, **options):
        """What the graph gives for texts, bytes `[batch]`: a dict of arrays `[batch, …]`."""
        if self.graph.takes_text:
            return self.graph.run(texts, pairs, **options)
        return self.graph.run_ids(self.tokenized(texts, pairs), **options)

    def tokenized(self, texts, pairs):
        """What a graph of token ids takes, of the length that it has, if it has one."""
        max_length = self.metadata["max_length"]
        padding = self.metadata.get("padding", "max_length")
        return self.graph.encoder(texts, pairs, max_length=max_length, padding=padding)

    def answers_to(self, texts):
        """What the graph gives for raw texts: arrays `[examples, …]`, as the task's `answers_to`.

        There must be at least one text.
        """
        return stacked(self.batches(texts))

    def answers_by_ids(self, texts, task):
        """The same by the signature `token_ids` of a SavedModel, tokenized by `task`."""

        def run(texts, pairs):
            return self.graph.run_ids(task.tokenized(texts, pairs, self.metadata["max_length"]))

        return stacked(self.batches(texts, run=run))

    def examples(self):
        """Varied inputs of the kind that it takes."""
        return examples.PAIRS if self.metadata["pairs"] else examples.TEXTS

    def listed(self, examples):
        """Texts, or pairs of texts, in any form, as a list.

        Raises:
            TypeError: an item is no text.
            ValueError: not as many texts as pairs.
        """
        if isinstance(examples, Iterator):
            examples = list(examples)
        columns = [
            [text.decode() for text in as_bytes(column, name)]
            for column, name in zip(split_pairs(examples), ("texts", "pairs"), strict=True)
            if column is not None
        ]
        if len(columns) == 1:
            return columns[0]
        if len(columns[0]) != len(columns[1]):
            raise ValueError(
                f"got {len(columns[0])} texts and {len(columns[1])} pairs; each text needs its pair"
            )
        return list(zip(*columns, strict=True))

    def wanted(self, task, examples):
        """What `task` gives where the artifact should give the same."""
        return task.answers_to(examples, max_length=self.metadata["max_length"])

    def found(self, task, examples):
        """What each signature gives; `task` makes what it takes."""
        answers = [self.answers_to(examples)]
        if "token_ids" in self.graph.describe_signatures():
            answers.append(self.answers_by_ids(examples, task))
        return answers

    def agreement(self, errors, tie):
        """Of errors `[examples]` the share that is right: those of less than `tie`."""
        return float(np.mean(errors < tie))
