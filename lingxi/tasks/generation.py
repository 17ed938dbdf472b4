"""What the tasks share that answer with text of their own making."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from lingxi import generation
from lingxi.generation import DecodingOptions
from lingxi.tasks import text_data
from lingxi.tasks.progress import progress
from lingxi.tasks.task import Task

STEP_BUCKET = 32  # `max_tokens` is rounded up to a multiple, so that few graphs are traced


@dataclasses.dataclass(frozen=True)
class Generation:
    """One text that a model made.

    Attributes:
        text: without special tokens; ends before a stop string.
        score: what beams were compared by, else the sum of `log_probs`.
        token_ids: the tokens, with the end token if there is one.
        log_probs: of each token, under the model.
    """

    text: str
    score: float
    token_ids: tuple
    log_probs: tuple


class GenerationTask(Task):
    """A model with a token head, trained on raw text, that answers with text.

    A subclass writes what `lingxi.tasks.task.Task` asks for except `answers` and `readable`, and
    `model_inputs`.

    Args:
        backbone, tokenizer, max_length: see `lingxi.tasks.task.Task`.
        decoding: `lingxi.generation.DecodingOptions`, or a dict of its arguments: what the verb
            does if its caller says nothing else.
        stop: strings at which an output ends.
    """

    def __init__(self, backbone, tokenizer, max_length=None, decoding=None, stop=(), **kwargs):
        super().__init__(backbone, tokenizer, max_length, **kwargs)
        if isinstance(decoding, dict):
            decoding = DecodingOptions(**decoding)
        self.decoding = self._with_ids(decoding or DecodingOptions())
        self.stop = _stop_strings(stop)
        self._decoders = {}
        self._decode_graphs = {}

    @property
    def output_tokenizer(self):
        """The tokenizer of what the model makes."""
        return getattr(self.tokenizer, "target", self.tokenizer)

    def model_inputs(self, inputs):
        """What the decoder starts from, of `token_ids` and `padding_mask`."""
        return inputs

    def decoding_options(self, **changes):
        """`self.decoding` with changes.

        Raises:
            ValueError: naming an unknown option, or a contradiction.
        """
        known = {field.name for field in dataclasses.fields(DecodingOptions)}
        unknown = sorted(set(changes) - known)
        if unknown:
            raise ValueError(f"unknown options {unknown}; there are {sorted(known)}")
        return dataclasses.replace(self.decoding, **changes)

    def decoder(self, options, stop=()):
        """The decoder of `lingxi.generation` for `options`, made once."""
        key = options, stop
        if key not in self._decoders:
            table = None
            if stop:
                table = generation.stop_table(stop, self.output_tokenizer.token_bytes)
            self._decoders[key] = generation.decoder(self.backbone, options, table)
        return self._decoders[key]

    def make(self, batches, stop=None, seed=None, verbose="auto", description="", **changes):
        """Decode tokenized inputs.

        Args:
            batches: `lingxi.tasks.text_data.LengthBucketedBatches` of `token_ids` and
                `padding_mask`.
            stop: strings at which an output ends, by default the task's.
            seed: of what is drawn; None draws another one every time.
            verbose, description: of the progress bar.
            changes: of `self.decoding`.

        Returns:
            For each example a list of `num_results` `Generation`s, in the order of the examples.
        """
        options = self.decoding_options(**changes)
        stop = self.stop if stop is None else _stop_strings(stop)
        results = [[] for _ in range(batches.num_examples)]
        if options.max_tokens == 0:
            empty = Generation("", 0.0, (), ())
            return [[empty] * options.num_results for _ in results]
        steps = -(-options.max_tokens // STEP_BUCKET) * STEP_BUCKET
        graph = self._decode_graph(options, stop, steps)
        uniform = _uniform(options, batches.num_examples, steps, seed)
        for step in progress(batches.num_batches, description, verbose):
            (inputs,), rows = batches[step], batches.rows[step]
            made = graph(
                inputs,
                options.max_tokens,
                options.temperature,
                options.top_p,
                tf.gather(uniform, rows),
            )
            made = {name: values.numpy() for name, values in made.items()}
            for place, row in enumerate(rows):
                results[row] = [
                    self._generation({name: made[name][place, n] for name in made}, stop)
                    for n in range(options.num_results)
                ]
        return results

    def _generation(self, made, stop):
        count = int(made["lengths"])
        token_ids = made["token_ids"][:count].tolist()
        text = before_stop(self.output_tokenizer.decode(token_ids), stop)
        log_probs = tuple(made["log_probs"][:count].tolist())
        return Generation(text, float(made["score"]), tuple(token_ids), log_probs)

    def _decode_graph(self, options, stop, steps):
        """One graph for all prompts, whatever their number and length."""
        drawing = options.temperature > 0
        options = dataclasses.replace(
            options,
            max_tokens=steps,
            temperature=float(drawing),
            top_p=1.0 if options.top_p == 1.0 else 0.5,  # the graph's argument counts
        )
        key = options, stop
        if key not in self._decode_graphs:
            decoder = self.decoder(options, stop)

            def decode(inputs, max_tokens, temperature, top_p, uniform):
                outputs = decoder(
                    self.model_inputs(inputs), max_tokens, temperature, top_p, uniform
                )
                return {**outputs, "score": outputs.pop("scores")}

            scalar = functools.partial(tf.TensorSpec, [])
            signature = [
                self.tokenized_signature(),
                scalar(tf.int32),
                scalar(tf.float32),
                scalar(tf.float32),
                tf.TensorSpec([None, options.rows, steps], tf.float32),
            ]
            self._decode_graphs[key] = tf.function(
                decode, input_signature=signature, autograph=False
            )
        return self._decode_graphs[key]

    # Serving

    def answers(self, inputs, options=None, stop=None, **arguments):
        """Tokenized inputs to token ids, in TensorFlow's graph.

        Args:
            inputs: dict of `token_ids` and `padding_mask`.
            options: `lingxi.generation.DecodingOptions`, by default the task's.
            stop: as in `make`.
            arguments: `max_tokens`, `temperature`, `top_p`, `uniform`: tensors, as
                `lingxi.generation.Decoder` takes them.

        Returns:
            `token_ids` int32 `[batch, results, max_tokens]`, `lengths` int32 and `score` float32
            `[batch, results]`.
        """
        stop = self.stop if stop is None else stop
        made = self.decoder(options or self.decoding, stop)(self.model_inputs(inputs), **arguments)
        return {
            "token_ids": made["token_ids"],
            "lengths": made["lengths"],
            "score": made["scores"],
        }

    def readable(self, answers):
        """`text` string and `score` float32 `[batch, results]` of what `answers` gives."""
        token_ids = answers["token_ids"]
        batch, results, steps = tf.unstack(tf.shape(token_ids))
        flat = tf.reshape(token_ids, [batch * results, steps])
        real = tf.sequence_mask(tf.reshape(answers["lengths"], [-1]), steps)
        text = self.output_tokenizer.detokenize(tf.ragged.boolean_mask(flat, real))
        for stop in self.stop:
            text = tf.strings.regex_replace(text, f"(?s){_quoted(stop)}.*", "")
        return {"text": tf.reshape(text, [batch, results]), "score": answers["score"]}

    def get_config(self):
        return {
            **super().get_config(),
            "decoding": dataclasses.asdict(self.decoding),
            "stop": list(self.stop),
        }

    def _with_ids(self, options):
        """The ids of the end and of padding, where the options leave them open."""
        ids = {"eos_id": self.output_tokenizer.eos_id, "pad_id": self.output_tokenizer.pad_id}
        missing = {name: i for name, i in ids.items() if getattr(options, name) is None}
        return dataclasses.replace(options, **missing)


def before_stop(text, stop):
    """`text` up to the first of the strings `stop`."""
    places = [text.find(string) for string in stop]
    return text[: min((place for place in places if place >= 0), default=len(text))]


def bucketed(inputs, pad_id, batch_size=None):
    """Prompts, as ragged `token_ids` and `padding_mask`, in batches of similar length."""
    return text_data.LengthBucketedBatches(
        inputs, None, batch_size or text_data.BATCH_SIZE, pad_id, "sorted"
    )


def _stop_strings(stop):
    return (stop,) if isinstance(stop, str) else tuple(stop)


def _quoted(string):
    """A regular expression for `string`, as RE2 writes it."""
    return "".join(f"\\x{{{ord(character):x}}}" for character in string)


def _uniform(options, examples, steps, seed):
    """float32 `[examples, rows, steps]`: the numbers that sampling turns into tokens."""
    shape = [examples, options.rows, steps]
    if not options.temperature:
        return tf.zeros(shape)
    if seed is None:
        seed = int(np.random.default_rng().integers(2**31))
    return tf.random.stateless_uniform(shape, [seed, 0])
