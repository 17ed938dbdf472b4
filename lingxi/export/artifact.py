"""Running an artifact from Python, with the verb of its task."""

import importlib
import pathlib

from lingxi.export import examples, metadata
from lingxi.export.graphs import SavedModelGraph, TFLiteGraph
from lingxi.tasks.progress import progress
from lingxi.tasks.text_data import BATCH_SIZE, split_pairs, stacked
from lingxi.text.strings import as_strings

ARTIFACTS = {  # task in the metadata: module of `lingxi.export.artifacts`, and class
    "MaskedLanguageModel": ("masked_language_model", "ExportedMaskedLanguageModel"),
    "QuestionAnswerer": ("question_answerer", "ExportedQuestionAnswerer"),
    "Summarizer": ("generation", "ExportedSummarizer"),
    "TextClassifier": ("text_classifier", "ExportedTextClassifier"),
    "TextEmbedder": ("text_embedder", "ExportedTextEmbedder"),
    "TextGenerator": ("generation", "ExportedTextGenerator"),
    "TextRegressor": ("text_regressor", "ExportedTextRegressor"),
    "TokenClassifier": ("token_classifier", "ExportedTokenClassifier"),
    "Translator": ("generation", "ExportedTranslator"),
}


def load(path):
    """The artifact at `path`, with the verb of its task, such as `classify`.

    Args:
        path: a TFLite file, the directory of one version of a SavedModel, or the directory of its
            versions (the highest is taken).

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: what is there was not written by lingxi.
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
    graph = TFLiteGraph(path, facts) if path.is_file() else SavedModelGraph(path, facts)
    module, name = ARTIFACTS[facts["task"]]
    module = importlib.import_module(f"lingxi.export.artifacts.{module}")
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
        graph: a `SavedModelGraph` or a `TFLiteGraph`.
    """

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
        first = as_strings(first, "texts")
        second = None if second is None else as_strings(second, "pairs")
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
        """What the graph gives for string tensors `[batch]`: a dict of arrays `[batch, …]`."""
        if self.graph.tokenizer is None:
            return self.graph.run(texts, pairs, **options)
        return self.graph.run_ids(self.tokenized(texts, pairs), **options)

    def tokenized(self, texts, pairs):
        """What a graph of token ids takes, of the length that it has."""
        max_length = self.metadata["max_length"]
        return self.graph.tokenizer(texts, pairs, max_length=max_length, padding="max_length")

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
