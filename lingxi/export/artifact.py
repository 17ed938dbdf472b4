"""Running an artifact from Python, with the verb of its task."""

import pathlib
import tempfile

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, InterpreterWithCustomOps

from lingxi import text
from lingxi.export import examples, metadata
from lingxi.tasks.generation import Generation, before_stop, text_of
from lingxi.tasks.progress import progress
from lingxi.tasks.prompts import tokenized_prompts
from lingxi.tasks.text_classifier import classifications
from lingxi.tasks.text_data import BATCH_SIZE, split_pairs
from lingxi.tasks.text_generator import before_stops
from lingxi.text.streaming import TextStream
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
    graph = TFLiteGraph(path, facts) if path.is_file() else SavedModelGraph(path, facts)
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


class ExportedGenerator(Artifact):
    """A task that makes text, in a file. A subclass gives it the task's verb.

    Args:
        num_threads: of a TFLite interpreter.
    """

    def make(self, texts, details=False, verbose="auto", seed=None, **options):
        """What the model makes of texts.

        Args:
            texts: a list or array of str, or one str.
            details: a `lingxi.tasks.Generation` in place of each str; its tokens' own
                log-probabilities are not in the file.
            verbose: a progress bar: True, False, or "auto" (for many batches).
            seed: of what is drawn, where the exported task draws; by default 0.
            options: of a SavedModel `max_tokens`, `temperature`, `top_p`.

        Returns:
            One answer for each text, or of one str just that answer; where the exported
            `num_results` is more than one, a list of so many in place of each.
        """
        if isinstance(texts, str):
            return self.make([texts], details, verbose, seed, **options)[0]
        if seed is not None:
            options["seed"] = seed

        def run(texts, pairs):
            return self.run(texts, pairs, **options)

        rows = []
        for batch in self.batches(texts, None, verbose, self.metadata["verb"], run):
            made = (batch[name] for name in ("token_ids", "lengths", "score"))
            for row, arrays in enumerate(zip(*made, strict=True)):
                rows.append(
                    [
                        Generation(self._text(batch, row, n), float(score), tuple(ids[:count]), ())
                        for n, (ids, count, score) in enumerate(zip(*arrays, strict=True))
                    ]
                )
        if not details:
            rows = [[generation.text for generation in row] for row in rows]
        return rows if self.metadata["num_results"] > 1 else [row[0] for row in rows]

    def _text(self, batch, row, result):
        stop = self.metadata["stop"]
        if "text" in batch:
            return text_of(batch["text"][row, result], stop)
        tokenizer = self.graph.tokenizer
        ids = batch["token_ids"][row, result, : batch["lengths"][row, result]]
        return before_stop(getattr(tokenizer, "target", tokenizer).decode([ids])[0], stop)


class ExportedTextGenerator(ExportedGenerator):
    """A `lingxi.tasks.TextGenerator` in a file."""

    def stream(self, prompt, seed=0):
        """The continuation of `prompt`, piece by piece, by a TFLite file exported `stepwise`.

        Raises:
            ValueError: the file has no signature for a step.
        """
        text = TextStream(self.graph.tokenizer)
        inputs = self.tokenized(as_strings([prompt], "prompt"), None)

        def pieces():
            for token in self.graph.stream(inputs, seed, self.metadata["searches"]):
                yield text.add(token)
            yield text.finish()

        return before_stops(pieces(), self.metadata["stop"])

    def tokenized(self, texts, pairs):
        room = self.metadata["max_length"]
        return tokenized_prompts(self.graph.tokenizer, texts, room, "max_length")

    def generate(self, prompts, **options):
        """As `make`."""
        return self.make(prompts, **options)


class _ExportedSequenceToSequence(ExportedGenerator):
    def tokenized(self, texts, pairs):
        return super().tokenized(tf.strings.join([self.metadata["prompt"], texts]), pairs)


class ExportedTranslator(_ExportedSequenceToSequence):
    """A `lingxi.tasks.Translator` in a file."""

    def translate(self, texts, **options):
        """As `make`."""
        return self.make(texts, **options)


class ExportedSummarizer(_ExportedSequenceToSequence):
    """A `lingxi.tasks.Summarizer` in a file."""

    def summarize(self, texts, **options):
        """As `make`."""
        return self.make(texts, **options)


ARTIFACTS = {  # of each task in the metadata
    "Summarizer": ExportedSummarizer,
    "TextClassifier": ExportedTextClassifier,
    "TextGenerator": ExportedTextGenerator,
    "Translator": ExportedTranslator,
}


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
