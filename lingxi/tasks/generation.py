"""What the tasks share that answer with text of their own making."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from lingxi import generation
from lingxi.answers.generation import Generation, before_stop, text_of
from lingxi.answers.progress import progress
from lingxi.generation import DecodingOptions
from lingxi.layers import decoding_by_tensorflow
from lingxi.tasks import text_data
from lingxi.tasks.task import Task
from lingxi.text.strings import as_strings
from lingxi.training import token_divergence

STATIC_LENGTH = 128  # tokens that a file with static shapes reads, unless it is told
BY_PROMPT = "prompt"  # a draft: what followed the same tokens before
STEP_BUCKET = 32  # `max_tokens` is rounded up to a multiple, so that few graphs are traced


class GenerationTask(Task):
    """A model with a token head, trained on raw text, that answers with text.

    A subclass writes what `lingxi.tasks.task.Task` asks for except what is here, `model_inputs`
    where the model takes other inputs, and the method that `verb` names.

    Args:
        backbone, tokenizer, max_length: see `lingxi.tasks.task.Task`.
        decoding: `lingxi.generation.DecodingOptions`, or a dict of its arguments: what the verb
            does if its caller says nothing else.
        stop: strings at which an output ends.
    """

    takes_pairs = False

    def __init__(self, backbone, tokenizer, max_length=None, decoding=None, stop=(), **kwargs):
        super().__init__(backbone, tokenizer, max_length, **kwargs)
        if isinstance(decoding, dict):
            decoding = DecodingOptions(**{name: _frozen(x) for name, x in decoding.items()})
        self.decoding = self._with_ids(decoding or DecodingOptions())
        self.stop = stop_strings(stop)
        self._decoders = {}
        self._decode_graphs = {}

    def divergence(self, x, y, outputs, others, sample_weight=None):
        return token_divergence(y, outputs, others, sample_weight)

    @property
    def output_tokenizer(self):
        """The tokenizer of what the model makes."""
        return getattr(self.tokenizer, "target", self.tokenizer)

    def model_inputs(self, inputs):
        """What the decoder starts from, of `token_ids` and `padding_mask`."""
        return inputs

    # How probable given texts are; a subclass says it by these three.

    def log_probs(self, **inputs):
        """float32 `[batch, n]`: the log-probability of each token of given texts, in any graph."""
        raise NotImplementedError

    def scoring_signature(self, batch=None, length=None):
        """What `log_probs` takes: `{name: tf.TensorSpec}`.

        Args:
            batch, length: None, or what is fixed; `length` is that of the inputs of `answers`.
        """
        raise NotImplementedError

    @functools.cached_property
    def log_probs_graph(self):
        """`log_probs` as one graph for all numbers of texts and lengths."""
        signature = list(self.scoring_signature().values())
        return tf.function(self.log_probs, input_signature=signature, autograph=False)

    def scored(self, inputs, made):
        """What `log_probs` takes to score what was made.

        Args:
            inputs: `token_ids` and `padding_mask`, arrays `[examples, seq]`.
            made: what `answers` gave of them, arrays.

        Returns:
            A dict of arrays `[examples, …]`, and bool `[examples, n]`: which log-probabilities are
            of tokens.
        """
        raise NotImplementedError

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

    def decoder(self, options, stop=(), draft=None):
        """The decoder of `lingxi.generation` for `options`, made once.

        Args:
            draft: a task that guesses tokens, or `BY_PROMPT`.
        """
        key = options, stop, draft
        if key not in self._decoders:
            table = None
            if stop:
                table = generation.stop_table(stop, self.output_tokenizer.token_bytes)
            unspelled = range(self.output_tokenizer.vocab_size, self.backbone.target_vocab_size)
            options = dataclasses.replace(options, banned=(*options.banned, *unspelled))
            if draft is None:
                self._decoders[key] = generation.decoder(self.backbone, options, table)
            else:
                guessing = None if draft == BY_PROMPT else draft.backbone
                self._decoders[key] = generation.SpeculativeDecoder(
                    self.backbone, options, guessing, stop_table=table
                )
        return self._decoders[key]

    def make(
        self,
        batches,
        stop=None,
        seed=None,
        verbose="auto",
        description="",
        draft=None,
        **changes,
    ):
        """Decode tokenized inputs.

        Args:
            batches: `lingxi.tasks.text_data.LengthBucketedBatches` of `token_ids` and
                `padding_mask`.
            stop: strings at which an output ends, by default the task's.
            seed: of what is drawn; None draws another one every time.
            verbose, description: of the progress bar.
            draft: as of `decoder`; batches then have one example each.
            changes: of `self.decoding`.

        Returns:
            For each example a list of `num_results` `Generation`s, in the order of the examples.
        """
        options = self.decoding_options(**changes)
        stop = self.stop if stop is None else stop_strings(stop)
        results = [[] for _ in range(batches.num_examples)]
        if options.max_tokens == 0:
            empty = Generation("", 0.0, (), ())
            return [[empty] * options.num_results for _ in results]
        graph = self._decode_graph(options, stop, draft)
        *scalars, uniform = decode_arguments(options, batches.num_examples, seed)
        for step in progress(batches.num_batches, description, verbose):
            (inputs,), rows = batches[step], batches.rows[step]
            made = graph(inputs, *scalars, tf.gather(uniform, rows))
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
        text = before_stop(self.output_tokenizer.decode([token_ids])[0], stop)
        log_probs = tuple(made["log_probs"][:count].tolist())
        return Generation(text, float(made["score"]), tuple(token_ids), log_probs)

    def _decode_graph(self, options, stop, draft=None):
        """One graph for all prompts, whatever their number and length."""
        options = traced_options(options)
        key = options, stop, draft
        if key not in self._decode_graphs:
            decoder = self.decoder(options, stop, draft)

            def decode(inputs, *arguments):
                with decoding_by_tensorflow():
                    outputs = decoder(self.model_inputs(inputs), *arguments)
                made = {name: outputs[name] for name in ("token_ids", "lengths", "log_probs")}
                return {**made, "score": outputs["scores"]}

            self._decode_graphs[key] = tf.function(
                decode, input_signature=self.decode_signature(options), autograph=False
            )
        return self._decode_graphs[key]

    def decode_signature(self, options):
        """What a graph of decoding takes: tokenized inputs and `decode_arguments`."""
        return [
            self.tokenized_signature(),
            tf.TensorSpec([], tf.int32),
            tf.TensorSpec([], tf.float32),
            tf.TensorSpec([], tf.float32),
            tf.TensorSpec([None, options.rows, options.max_tokens], tf.float32),
        ]

    # Serving

    def static_length(self, max_length=None):
        if max_length is None:
            max_length = min(self.max_length, STATIC_LENGTH)
        return self.checked_max_length(max_length)

    def answers(self, inputs, uniform=None, **arguments):
        """Tokenized inputs to token ids, in TensorFlow's graph.

        Args:
            inputs: dict of `token_ids` and `padding_mask`.
            arguments: those of `serving_arguments`, in place of what the task does by itself.
            uniform: float32 `[batch, rows, max_tokens]` in [0, 1), which sampling turns into
                tokens, in place of the numbers that a seed gives.

        Returns:
            `token_ids` int32 `[batch, results, max_tokens]`, `lengths` int32 and `score` float32
            `[batch, results]`.
        """
        options = self.decoding
        if "temperature" in arguments:
            options = _told(options)
        seed = arguments.pop("seed", 0)
        if options.temperature and uniform is None:
            shape = [tf.shape(inputs["token_ids"])[0], options.rows, options.max_tokens]
            uniform = tf.random.stateless_uniform(shape, tf.stack([seed, 0]))
        decoder = self.decoder(options, self.stop)
        made = decoder(self.model_inputs(inputs), uniform=uniform, **arguments)
        return {
            "token_ids": made["token_ids"],
            "lengths": made["lengths"],
            "score": made["scores"],
        }

    def serving_arguments(self):
        """What a caller of a SavedModel may choose."""
        scalars = {"max_tokens": tf.int32}
        if self.decoding.beams == 1 and not self.decoding.contrastive_alpha:
            scalars |= {"temperature": tf.float32, "top_p": tf.float32, "seed": tf.int32}
        return {name: tf.TensorSpec([], dtype, name) for name, dtype in scalars.items()}

    def tflite_arguments(self, batch_size):
        """What a TFLite file takes besides the tokens of its texts: numbers to draw by."""
        o = self.decoding
        if not o.temperature:
            return {}
        return {"uniform": tf.TensorSpec([batch_size, o.rows, o.max_tokens], tf.float32, "uniform")}

    def tflite_kernels(self):
        return (*super().tflite_kernels(), *self.output_tokenizer.tflite_text_out)

    def stepwise(self, signature):
        """Decoding by two graphs that hand on its state, for callers that go step by step.

        Args:
            signature: `{name: tf.TensorSpec}` of what `answers` takes, with static shapes.

        Returns:
            `{"prefill": …, "decode": …}`, concrete functions of named tensors. `prefill` takes the
            inputs, `decode` all that either gave whose name begins with "state"; both also give
            `unfinished`, bool, and what `answers` gives of the tokens so far.
        """
        decoder = self.decoder(self.decoding, self.stop)
        structure = []  # of the state, once it is traced

        def seen(state):
            structure[:] = [state]
            made = decoder.result(state)
            return {
                **dict(_named(state)),
                "unfinished": decoder.unfinished(state),
                "token_ids": made["token_ids"],
                "lengths": made["lengths"],
                "score": made["scores"],
            }

        def prefill(**inputs):
            uniform = inputs.pop("uniform", None)
            return seen(decoder.start(self.model_inputs(inputs), uniform=uniform))

        def decode(**state):
            flat = [state[name] for name, _ in _named(structure[0])]
            return seen(decoder.advance(tf.nest.pack_sequence_as(structure[0], flat)))

        prefill = tf.function(prefill, autograph=False).get_concrete_function(**signature)
        state = {
            name: tf.TensorSpec(tensor.shape, tensor.dtype, name)
            for name, tensor in prefill.structured_outputs.items()
            if name.startswith("state")
        }
        decode = tf.function(decode, autograph=False).get_concrete_function(**state)
        return {"prefill": prefill, "decode": decode}

    def readable(self, answers):
        """`answers`, and their `text`, string `[batch, results]`."""
        token_ids, tokenizer = answers["token_ids"], self.output_tokenizer
        batch, results, steps = token_ids.shape
        flat = tf.reshape(token_ids, [-1, steps])
        if tokenizer.in_tflite:  # which has neither ragged tensors nor regular expressions
            text = tokenizer.detokenize(flat)
        else:
            real = tf.sequence_mask(tf.reshape(answers["lengths"], [-1]), steps)
            text = tokenizer.detokenize(tf.ragged.boolean_mask(flat, real))
            for stop in self.stop:
                text = tf.strings.regex_replace(text, f"(?s){_quoted(stop)}.*", "")
        return {"text": tf.reshape(text, [batch or -1, results]), **answers}

    def answers_to(self, x, batch_size=None, verbose=False, description="", max_length=None):
        """As of every task; the texts keep their order, by which their random numbers are drawn."""
        texts, size = as_strings(x, "texts"), batch_size or text_data.BATCH_SIZE
        made = [
            self._answers_graph(
                self.tokenized(texts[step * size : (step + 1) * size], max_length=max_length)
            )
            for step in progress(-(-len(texts) // size), description, verbose)
        ]
        return {name: np.concatenate([answers[name] for answers in made]) for name in made[0]}

    def export_metadata(self):
        return {
            **super().export_metadata(),
            "verb": self.verb,
            "stop": list(self.stop),
            "max_tokens": self.decoding.max_tokens,
            "num_results": self.decoding.num_results,
            "rows": self.decoding.rows,
            "draws": self.decoding.temperature > 0,
            "searches": self.decoding.beams > 1,
            "defaults": {
                "max_tokens": self.decoding.max_tokens,
                "temperature": self.decoding.temperature,
                "top_p": self.decoding.top_p,
                "seed": 0,
            },
        }

    def disagreement(self, expected, found):
        """Share of an artifact's tokens that are others than the task's, `[examples]`."""
        wrong = []
        for row, lengths in enumerate(expected["lengths"]):
            differs = expected["token_ids"][row] != found["token_ids"][row]
            longest = np.maximum(lengths, found["lengths"][row])
            wrong.append(differs.sum() / max(longest.sum(), 1))
            if "text" in found and not wrong[-1]:
                pairs = zip(expected["token_ids"][row], lengths, strict=True)
                texts = self.output_tokenizer.decode([ids[:count] for ids, count in pairs])
                texts = [before_stop(text, self.stop) for text in texts]
                made = [text_of(text, self.stop) for text in found["text"][row]]
                wrong[-1] = float(texts != made)
        return np.array(wrong)

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


def bucketed(inputs, pad_id, batch_size=None):
    """Prompts, as ragged `token_ids` and `padding_mask`, in batches of similar length."""
    return text_data.LengthBucketedBatches(
        inputs, None, batch_size or text_data.BATCH_SIZE, pad_id, "sorted"
    )


def _named(state):
    """`(name, tensor)` of each tensor of a nested state, in the order of `tf.nest.flatten`."""
    tensors = tf.nest.flatten(state)
    return [(f"state_{index:03}", tensor) for index, tensor in enumerate(tensors)]


def _told(options):
    """`options` of a graph that draws or not, as its arguments tell."""
    return dataclasses.replace(
        options,
        temperature=options.temperature or 1.0,
        top_p=min(options.top_p, 0.5),  # any below 1 traces what the argument is for
    )


def stop_strings(stop):
    return (stop,) if isinstance(stop, str) else tuple(stop)


def _frozen(value):
    """Lists, as JSON has them, as tuples."""
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


def _quoted(string):
    """A regular expression for `string`, as RE2 writes it."""
    return "".join(f"\\x{{{ord(character):x}}}" for character in string)


def traced_options(options):
    """The options of a graph that decodes as `options` say, and as others that are traced alike."""
    return dataclasses.replace(
        options,
        max_tokens=-(-options.max_tokens // STEP_BUCKET) * STEP_BUCKET,
        temperature=float(options.temperature > 0),
        top_p=1.0 if options.top_p == 1.0 else 0.5,  # the graph's argument counts
    )


def decode_arguments(options, examples, seed):
    """What a graph of `traced_options` takes besides the inputs.

    `max_tokens`, `temperature` and `top_p`; and float32 `[examples, rows, steps]`, the numbers
    that sampling turns into tokens.
    """
    shape = [examples, options.rows, traced_options(options).max_tokens]
    if not options.temperature:
        uniform = tf.zeros(shape)
    else:
        if seed is None:
            seed = int(np.random.default_rng().integers(2**31))
        uniform = tf.random.stateless_uniform(shape, [seed, 0])
    return options.max_tokens, options.temperature, options.top_p, uniform
