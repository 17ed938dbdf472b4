"""The graphs that artifacts hold, run from Python: tensors in, a dict of arrays out."""

import tempfile

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, InterpreterWithCustomOps

from lingxi import text
from lingxi.export import metadata
from lingxi.tasks.text_data import stacked


class SavedModelGraph:
    """The signatures of a SavedModel written by `lingxi.export.saved_model`."""

    tokenizer = None  # it is inside

    def __init__(self, path, facts):
        import tensorflow_text  # noqa: F401  registers the tokenizer's operations

        self.defaults = facts.get("defaults")
        self.signatures = tf.saved_model.load(str(path)).signatures

    def run(self, texts, pairs=None, **options):
        """A dict of arrays `[batch, …]` for string tensors `[batch]`.

        Raises:
            ValueError: an option that the task was not exported with.
        """
        inputs = {"text": texts} if pairs is None else {"text": texts, "pair": pairs}
        if not options:
            return _arrays(self.signatures["serving_default"](**inputs))
        known = {}
        if "with_options" in self.signatures:
            known = dict(self.signatures["with_options"].structured_input_signature[1])
            known.pop("text")
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise ValueError(
                f"this SavedModel has no options {unknown}; it has {sorted(known) or 'none'}"
            )
        told = {
            name: tf.cast(options.get(name, self.defaults[name]), spec.dtype)
            for name, spec in known.items()
        }
        return _arrays(self.signatures["with_options"](**inputs, **told))

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
        self.uniform_shape = (facts["rows"], facts["max_tokens"]) if facts.get("draws") else None
        self.tokenizer = None
        self.names = facts.get("inputs")  # of what a tokenizer gives, where they are not its own
        if facts["input"] == "text":
            from tensorflow_text import tflite_registrar

            self.interpreter = InterpreterWithCustomOps(
                custom_op_registerers=[
                    getattr(tflite_registrar, name) for name in facts["kernels"]
                ],
                model_path=str(path),
                num_threads=num_threads,
            )
        else:
            self.interpreter = Interpreter(model_path=str(path), num_threads=num_threads)
            with tempfile.TemporaryDirectory() as folder:
                metadata.extract(path, folder)
                self.tokenizer = text.from_directory(folder)
        self.runner = self.interpreter.get_signature_runner("serving_default")

    def run(self, texts, pairs=None, **options):
        """A dict of arrays `[batch, …]` for string tensors `[batch]`, one after the other."""
        inputs = {"text": texts} if pairs is None else {"text": texts, "pair": pairs}
        return self.run_ids(inputs, **options)

    def run_ids(self, inputs, seed=0, **options):
        """The same for what a tokenizer gives."""
        if options:
            raise ValueError(f"a TFLite file has no options, got {sorted(options)}")
        columns = self._columns(inputs, seed)
        return stacked(
            self.runner(**{name: column[i : i + 1] for name, column in columns.items()})
            for i in range(len(next(iter(columns.values()))))
        )

    def _columns(self, inputs, seed):
        """The inputs as arrays, with the numbers to draw by if the task draws."""
        columns = _arrays(inputs)
        if self.names is not None:
            columns = {self.names[n]: column.astype("int32") for n, column in columns.items()}
        if self.uniform_shape is not None:
            shape = [len(next(iter(columns.values()))), *self.uniform_shape]
            columns["uniform"] = tf.random.stateless_uniform(shape, [seed, 0]).numpy()
        return columns

    def stream(self, inputs, seed=0, searches=False):
        """The tokens of the first result of one text, as they are made; of a search at its end.

        Raises:
            ValueError: the file was not exported `stepwise`.
        """
        if "prefill" not in self.interpreter.get_signature_list():
            raise ValueError("this file has no steps; export it with stepwise=True")
        decode = self.interpreter.get_signature_runner("decode")
        made = self.interpreter.get_signature_runner("prefill")(**self._columns(inputs, seed))
        count = 0
        while True:
            if not (searches and made["unfinished"]):
                yield from made["token_ids"][0, 0, count : made["lengths"][0, 0]].tolist()
                count = made["lengths"][0, 0]
            if not made["unfinished"]:
                return
            made = decode(**{n: values for n, values in made.items() if n.startswith("state")})

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


def _arrays(tensors):
    return {name: values.numpy() for name, values in tensors.items()}


def _specs(structure):
    return {
        name: f"{spec.dtype.name}{spec.shape.as_list()}" for name, spec in sorted(structure.items())
    }
