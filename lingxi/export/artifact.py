"""Running an artifact from Python, with the verb of its task."""

import pathlib
import tempfile

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, InterpreterWithCustomOps

from lingxi.export import metadata
from lingxi.tasks.text_classifier import classification
from lingxi.tasks.text_data import split_pairs
from lingxi.text import WordPieceTokenizer
from lingxi.text.strings import as_strings

BATCH_SIZE = 32


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
    if path.is_file():
        return TFLiteArtifact(path)
    versions = [child for child in path.iterdir() if child.name.isdigit()]
    return SavedModelArtifact(max(versions, key=lambda p: int(p.name)) if versions else path)


class _Classifier:
    """`classify` for an artifact that knows its `metadata` and its `probabilities`."""

    def classify(self, texts):
        """A `lingxi.tasks.Classification` for each text, or `(text, pair)` if it takes pairs."""
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
        if not len(first):
            return []
        labels, multi_label = self.metadata["labels"], self.metadata["multi_label"]
        answers = []
        for start in range(0, len(first), BATCH_SIZE):
            part = slice(start, start + BATCH_SIZE)
            rows = self.probabilities(first[part], None if second is None else second[part])
            answers += [classification(labels, row, multi_label) for row in rows]
        return answers


class SavedModelArtifact(_Classifier):
    """A SavedModel written by `lingxi.export.saved_model`."""

    def __init__(self, path):
        import tensorflow_text  # noqa: F401  registers the tokenizer's operations

        self.path = path
        self.metadata = metadata.read(path)
        self.signatures = tf.saved_model.load(str(path)).signatures

    def probabilities(self, texts, pairs=None):
        """float32 `[batch, labels]` for string tensors `[batch]`."""
        inputs = {"text": texts} if pairs is None else {"text": texts, "pair": pairs}
        return self.signatures["serving_default"](**inputs)["probabilities"].numpy()

    def describe_signatures(self):
        """`{signature: (inputs, outputs)}`, each `{name: "dtype[shape]"}`."""
        return {
            name: (
                _specs(signature.structured_input_signature[1]),
                _specs(signature.structured_outputs),
            )
            for name, signature in self.signatures.items()
        }


class TFLiteArtifact(_Classifier):
    """A TFLite file written by `lingxi.export.tflite`."""

    def __init__(self, path, num_threads=None):
        self.path = path
        self.metadata = metadata.read(path)
        self.tokenizer = None
        if self.metadata["input"] == "text":
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
                self.tokenizer = WordPieceTokenizer.from_directory(folder)
        self.runner = self.interpreter.get_signature_runner("serving_default")

    def probabilities(self, texts, pairs=None):
        """float32 `[batch, labels]` for string tensors `[batch]`, one after the other."""
        if self.tokenizer is not None:
            inputs = self.tokenizer(
                texts, pairs, max_length=self.metadata["max_length"], padding="max_length"
            )
            columns = {name: values.numpy() for name, values in inputs.items()}
        else:
            columns = {"text": texts.numpy()} | ({} if pairs is None else {"pair": pairs.numpy()})
        rows = [
            self.runner(**{name: column[i : i + 1] for name, column in columns.items()})
            for i in range(len(texts))
        ]
        return np.concatenate([row["probabilities"] for row in rows])

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


def _specs(structure):
    return {
        name: f"{spec.dtype.name}{spec.shape.as_list()}" for name, spec in sorted(structure.items())
    }
