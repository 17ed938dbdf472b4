"""Running an artifact from Python, with the verb of its task."""

import pathlib
import tempfile

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, InterpreterWithCustomOps

from lingxi import text
from lingxi.export import examples, metadata
from lingxi.tasks.progress import progress
from lingxi.tasks.text_classifier import classifications
from lingxi.tasks.text_data import BATCH_SIZE, split_pairs
from lingxi.text.strings import as_strings


def load(path):
    """The artifact at `path`, with the verb of its task (`classify`).

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
    graph = TFLiteGraph(path, facts) if path.is_file() else SavedModelGraph(path)
    return ARTIFACTS[facts["task"]](path, facts, graph)


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
        """What `run`, by default the graph, gives for each batch of texts: a dict of arrays.

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
        run, size = run or self.graph.run, batch_size or BATCH_SIZE
        for step in progress(-(-len(first) // size), description, verbose):
            part = slice(step * size, (step + 1) * size)
            yield run(first[part], None if second is None else second[part])

    def answers_to(self, texts):
        """What the graph gives for raw texts: arrays `[examples, …]`, as the task's `answers_to`.

        There must be at least one text.
        """
        return stacked(self.batches(texts))

    def answers_by_ids(self, texts, tokenizer):
        """The same by the signature `token_ids` of a SavedModel."""

        def run(texts, pairs):
            inputs = tokenizer(texts, pairs, max_length=self.metadata["max_length"])
            return self.graph.run_ids(inputs)

        return stacked(self.batches(texts, run=run))

    def examples(self):
        """Varied inputs of the kind that it takes."""
        return examples.PAIRS if self.metadata["pairs"] else examples.TEXTS


class ExportedTextClassifier(Artifact):
    """A `lingxi.tasks.TextClassifier` in a file."""

    def classify(self, texts, batch_size=None, verbose="auto"):
        """A `lingxi.tasks.Classification` for each text, or `(text, pair)` if it takes pairs."""
        labels, multi_label = self.metadata["labels"], self.metadata["multi_label"]
        batches = self.batches(texts, batch_size, verbose, "classify")
        return [
            answer
            for batch in batches
            for answer in classifications(batch["probabilities"], labels, multi_label)
        ]


ARTIFACTS = {"TextClassifier": ExportedTextClassifier}  # of each task in the metadata


class SavedModelGraph:
    """The signatures of a SavedModel written by `lingxi.export.saved_model`."""

    def __init__(self, path):
        import tensorflow_text  # noqa: F401  registers the tokenizer's operations

        self.signatures = tf.saved_model.load(str(path)).signatures

    def run(self, texts, pairs=None):
        """A dict of arrays `[batch, …]` for string tensors `[batch]`."""
        inputs = {"text": texts} if pairs is None else {"text": texts, "pair": pairs}
        return _arrays(self.signatures["serving_default"](**inputs))

    def run_ids(self, inputs):
        """The same for what a tokenizer gives."""
        return _arrays(self.signatures["token_ids"](**inputs))

    def describe_signatures(self):
        """`{signature: (inputs, outputs)}`, each `{name: "dtype[shape]"}`."""
        return {
            name: (
                _specs(signature.structured_input_signature[1]),
                _specs(signature.structured_outputs),
            )
            for name, signature in self.signatures.items()
        }


class TFLiteGraph:
    """The signature of a TFLite file written by `lingxi.export.tflite`, and its tokenizer."""

    def __init__(self, path, facts, num_threads=None):
        self.max_length = facts["max_length"]
        self.tokenizer = None
        if facts["input"] == "text":
            from tensorflow_text import tflite_registrar

            self.interpreter = InterpreterWithCustomOps(
                custom_op_registerers=tflite_registrar.SELECT_TFTEXT_OPS,
                model_path=str(path),
                num_threads=num_threads,
            )
        else:
            self.interpreter = Interpreter(model_path=str(path), num_threads=num_threads)
            with tempfile.TemporaryDirectory() as folder:
                metadata.extract(path, folder)
                self.tokenizer = text.from_directory(folder)
        self.runner = self.interpreter.get_signature_runner("serving_default")

    def run(self, texts, pairs=None):
        """A dict of arrays `[batch, …]` for string tensors `[batch]`, one after the other."""
        if self.tokenizer is not None:
            inputs = self.tokenizer(texts, pairs, max_length=self.max_length, padding="max_length")
        else:
            inputs = {"text": texts} if pairs is None else {"text": texts, "pair": pairs}
        columns = _arrays(inputs)
        return stacked(
            self.runner(**{name: column[i : i + 1] for name, column in columns.items()})
            for i in range(len(texts))
        )

    def describe_signatures(self):
        """`{signature: (inputs, outputs)}`, each `{name: "dtype[shape]"}`."""
        described = {}
        for name in self.interpreter.get_signature_list():
            runner = self.interpreter.get_signature_runner(name)
            described[name] = tuple(
                {
                    key: f"{np.dtype(d['dtype']).name}{d['shape_signature'].tolist()}"
                    for key, d in sorted(details.items())
                }
                for details in (runner.get_input_details(), runner.get_output_details())
            )
        return described


def stacked(batches):
    """One dict of arrays from several of `[batch, …]`."""
    batches = list(batches)
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _arrays(tensors):
    return {name: values.numpy() for name, values in tensors.items()}


def _specs(structure):
    return {
        name: f"{spec.dtype.name}{spec.shape.as_list()}" for name, spec in sorted(structure.items())
    }
