"""The graph of a TFLite file, run from Python: texts or arrays in, a dict of arrays out.

TensorFlow is imported only where the file needs it: for a tokenizer other than WordPiece that is
not inside, and to draw.
"""

import functools

import numpy as np
from ai_edge_litert.interpreter import (
    Interpreter,
    InterpreterWithCustomOps,
    OpResolverType,
)

from lingxi.answers.batches import BATCH_SIZE, stacked
from lingxi.export.kernels import registerers
from lingxi.export.packed_tokenizer import PackedTokenizer


class TFLiteGraph(PackedTokenizer):
    """The signature of a TFLite file written by `lingxi.export.tflite`, and its tokenizer."""

    def __init__(self, path, facts, num_threads=None):
        self.uniform_shape = (facts["rows"], facts["max_tokens"]) if facts.get("draws") else None
        self.takes_text = facts["input"] == "text"
        self.names = facts.get("inputs")  # of what a tokenizer gives, where they are not its own
        self.path = path if facts["input"] in ("ids", "mediapipe") else None  # of a tokenizer
        self.kernels = facts.get("kernels")
        self.shorter = facts.get("lengths", [])[:-1]  # than `serving_default`, in rising order
        self.batch_size = facts.get("batch_size", 1)  # None: any
        self.interpreter = self.open(path, num_threads)
        self.runner = functools.cache(self.interpreter.get_signature_runner)
        self.runner("serving_default")

    def open(self, path, num_threads=None, keeps_values=False):
        """An interpreter of the file.

        Args:
            keeps_values: those of all operators can be read after a run, which is slower.
        """
        options = {"model_path": str(path), "num_threads": num_threads}
        if keeps_values:
            options["experimental_preserve_all_tensors"] = True
            options["experimental_op_resolver_type"] = (
                OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            )
        if self.kernels is None:
            return Interpreter(**options)
        return InterpreterWithCustomOps(registerers(self.kernels), **options)

    def run(self, texts, pairs=None, **options):
        """A dict of arrays `[batch, …]` for texts `[batch]`, as many at once as the file takes."""
        inputs = {"text": texts} if pairs is None else {"text": texts, "pair": pairs}
        return self.run_ids(inputs, **options)

    def run_ids(self, inputs, seed=0, **options):
        """The same for what a tokenizer gives."""
        if options:
            raise ValueError(f"a TFLite file has no options, got {sorted(options)}")
        return self._in_batches(self._run_batch, self._columns(inputs, seed))

    def score(self, inputs):
        """`log_probs` of given texts, where the task makes text."""
        return self._in_batches(lambda batch: self.runner("score")(**batch), inputs)

    def _in_batches(self, run, columns):
        """What `run` gives for each batch of arrays `[examples, …]`, put together."""
        size, count = self.batch_size or BATCH_SIZE, len(next(iter(columns.values())))
        columns = self._filled(columns)
        together = stacked(
            run({name: column[start : start + size] for name, column in columns.items()})
            for start in range(0, count, size)
        )
        return {name: values[:count] for name, values in together.items()}

    def _filled(self, columns):
        """Arrays `[examples, …]`, the last example again until they are whole batches."""
        size = self.batch_size or 1
        return {
            name: np.concatenate([column, np.repeat(column[-1:], -len(column) % size, axis=0)])
            for name, column in columns.items()
        }

    def _run_batch(self, inputs):
        """What the signature of the shortest length gives that holds all examples."""
        if not self.shorter:
            return self.runner("serving_default")(**inputs)
        if self.takes_text:
            count = self.runner("num_tokens")(**inputs)["num_tokens"].max()
        else:
            count = inputs["padding_mask"].sum(axis=1).max()
        length = next((length for length in self.shorter if length >= count), None)
        if length is None:
            return self.runner("serving_default")(**inputs)
        if not self.takes_text:
            inputs = {name: values[:, :length] for name, values in inputs.items()}
        return self.runner(f"length_{length}")(**inputs)

    def _columns(self, inputs, seed):
        """The inputs as arrays, with the numbers to draw by if the task draws."""
        columns = {name: np.asarray(values) for name, values in inputs.items()}
        if self.names is not None:
            columns = {self.names[n]: column.astype("int32") for n, column in columns.items()}
        if self.uniform_shape is not None:
            import tensorflow as tf  # whose random numbers a seed gives everywhere

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
        columns = self._filled(self._columns(inputs, seed))
        made = self.interpreter.get_signature_runner("prefill")(**columns)
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
