"""Text generation: a causal language model that continues, scores and compares texts."""

import dataclasses
import math
import warnings

import keras
import numpy as np
import tensorflow as tf

from lingxi.answers.generation import before_stops
from lingxi.answers.progress import progress
from lingxi.generation.decoder import log_probability
from lingxi.tasks import language_data, text_data
from lingxi.tasks.fine_tuning import LEARNING_RATE
from lingxi.tasks.generation import (
    BY_PROMPT,
    GenerationTask,
    bucketed,
    decode_arguments,
    stop_strings,
    traced_options,
)
from lingxi.tasks.prompts import beginning_of, last_tokens, tokenized_prompts
from lingxi.tasks.token_cache import caches
from lingxi.text.streaming import TextStream
from lingxi.text.strings import as_strings
from lingxi.training import IGNORED, Perplexity, TokenAccuracy, TokenCrossEntropy, run_seed
from lingxi.zoo import Gpt


@dataclasses.dataclass(frozen=True)
class Score:
    """How probable a model finds a text.

    Attributes:
        token_ids: the tokens.
        tokens: as the vocabulary writes them.
        log_probs: of each token, given those before it.
    """

    token_ids: tuple
    tokens: tuple
    log_probs: tuple

    @property
    def total(self):
        """The log-probability of the text."""
        return math.fsum(self.log_probs)

    @property
    def mean(self):
        """The log-probability of a token, on average."""
        return self.total / max(len(self.log_probs), 1)

    @property
    def perplexity(self):
        return math.exp(-self.mean)


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which of several continuations a model prefers.

    Attributes:
        label: the best one.
        score: its mean (or total) log-probability.
        means: the log-probability of a token of each choice, on average.
        totals: the log-probability of each choice.
    """

    label: str
    score: float
    means: dict
    totals: dict


@keras.saving.register_keras_serializable(package="lingxi")
class TextGenerator(GenerationTask):
    """A causal language model, trained and called on raw text.

    As a Keras model it takes `{"token_ids": [batch, seq]}`, with a `padding_mask` if there is
    padding, and gives the logits of the next tokens `[batch, seq, vocab]`.

    Args:
        backbone: a `lingxi.zoo.Gpt`.
        tokenizer: the backbone's `lingxi.text.Tokenizer`.
        max_length: the context: the most tokens of a prompt and its continuation together. By
            default the shorter of the tokenizer's and the backbone's maximum.
        decoding: `lingxi.generation.DecodingOptions`, or a dict of its arguments: what `generate`
            does if its caller says nothing else. By default greedy, at most 64 tokens.
        stop: strings at which a continuation ends.
    """

    architectures = (Gpt,)
    verb = "generate"

    def __init__(self, backbone, tokenizer, max_length=None, decoding=None, stop=(), **kwargs):
        super().__init__(backbone, tokenizer, max_length, decoding, stop, **kwargs)
        if decoding is None:
            most = min(self.decoding.max_tokens, self.max_length // 2)
            self.decoding = self.decoding_options(max_tokens=most)
        self.built = True

    # The Keras model

    def call(self, inputs, training=None):
        return self.backbone(inputs, training=training)["logits"]

    def default_loss(self):
        """Cross-entropy of the next token."""
        return TokenCrossEntropy()

    def default_metrics(self):
        """Perplexity and accuracy."""
        return [Perplexity(), TokenAccuracy()]

    def metrics_example(self):
        """Targets and logits of one example."""
        vocab_size = self.backbone.config.vocab_size
        return np.zeros((1, 1), "int32"), np.zeros((1, 1, vocab_size), "float32")

    def fit(
        self,
        x=None,
        validation_data=None,
        epochs=1,
        batch_size=None,
        block_size=None,
        steps_per_epoch=None,
        shuffle=True,
        seed=None,
        learning_rate=LEARNING_RATE,
        resume=None,
        cache=None,
        **kwargs,
    ):
        """Train on plain texts, packed into blocks without padding.

        Args:
            x: list of documents; path of a text file (`str` or `Path`), or list of `Path`s; a
                `tf.data.Dataset` of strings; or anything that `keras.Model.fit` takes, as
                `{"token_ids"}` and the ids shifted by one.
            validation_data: of the same kinds.
            epochs: passes over all blocks, or as many times `steps_per_epoch`.
            batch_size: blocks a step; by default 32, and fewer of more than 256 tokens.
            block_size: tokens of a block, by default `max_length`.
            steps_per_epoch: batches of what is called an epoch; the texts are repeated as needed.
            shuffle: blocks in random order, cut at other places in every pass.
            seed: of that.
            learning_rate: the peak of the default schedule, 5e-5; an optimizer given to `compile`
                has its own.
            resume: a directory to go on from after a failure, see `Task.fit`.
            cache: a directory to keep the tokens of text files in, for files larger than memory:
                they are tokenized once, and read from there in this training and in later ones.
            kwargs: as in `keras.Model.fit`.
        """
        seed = run_seed(resume, seed)
        repeat = steps_per_epoch is not None
        stored, validation_stored = caches(cache, x, validation_data, kwargs.get("verbose"))
        x = self._blocks(x, batch_size, block_size, shuffle, repeat, seed, stored)
        if validation_data is not None and not isinstance(validation_data, tuple):
            validation_data = self._blocks(
                validation_data, batch_size, block_size, cache=validation_stored
            )
        return super().fit(
            x,
            validation_data=validation_data,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            shuffle=shuffle,
            seed=seed,
            learning_rate=learning_rate,
            resume=resume,
            **kwargs,
        )

    def evaluate(self, x=None, batch_size=None, block_size=None, **kwargs):
        """Loss, perplexity and accuracy over all tokens of anything that `fit` takes."""
        return super().evaluate(self._blocks(x, batch_size, block_size), **kwargs)

    def predict(self, x, **kwargs):
        """Logits of tokenized inputs, as in Keras.

        Raises:
            TypeError: for texts, whose logits would fill the memory.
        """
        if language_data.is_text(x):
            raise TypeError(
                "predict gives the logits of tokenized inputs; for texts, use generate or score"
            )
        return super().predict(x, **kwargs)

    def _blocks(
        self, x, batch_size, block_size, shuffle=False, repeat=False, seed=None, cache=None
    ):
        """Texts as a data set of blocks; what is none, as it is."""
        if not language_data.is_text(x):
            return x
        block_size = self.checked_max_length(block_size)
        batch_size = batch_size or language_data.batch_size_for(block_size)
        return language_data.blocks(
            x, self.tokenizer, block_size, batch_size, shuffle, repeat, seed, cache
        )

    def test_step(self, *batch):
        """As in Keras, but on TensorFlow the mean is over tokens: the last block may be filled up.

        On JAX it is over blocks, in the "loss" alone.
        """
        if keras.backend.backend() == "jax":
            return super().test_step(*batch)
        (data,) = batch
        inputs, targets, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        logits = self(inputs, training=False)
        loss = self.compute_loss(inputs, targets, logits, sample_weight, training=False)
        loss *= tf.cast(self.distribute_strategy.num_replicas_in_sync, loss.dtype)
        count = tf.math.count_nonzero(targets != IGNORED)
        self._loss_tracker.update_state(loss, sample_weight=count)
        return self.compute_metrics(inputs, targets, logits, sample_weight)

    # Generation

    def generate(
        self,
        prompts,
        stop=None,
        seed=None,
        truncate=True,
        details=False,
        draft=None,
        batch_size=None,
        verbose="auto",
        **options,
    ):
        """What follows each prompt.

        Args:
            prompts: a list of strings, or one string. Before an empty one stands the token that
                begins a text.
            stop: a string, or strings, at which a continuation ends, by default the generator's.
            seed: of what is drawn; None draws another one every time.
            truncate: cut prompts that are too long on the left, with a warning, instead of
                raising a ValueError.
            details: `lingxi.tasks.Generation` objects instead of strings.
            draft: guesses the next tokens, so that this model reads several at once: the same
                texts by fewer of its steps, of greedy decoding, one prompt after the other. A
                smaller `TextGenerator` of the same vocabulary; or "prompt": what followed the same
                tokens before, for texts that repeat much, such as code.
            batch_size: prompts a step; prompts are grouped by length, the answers keep their order.
            verbose: a progress bar: True, False, or "auto" (for more than 20 batches).
            options: changes of `decoding`: `max_tokens`, `temperature`, `top_k`, `top_p`, `beams`,
                `num_results`, … as in `lingxi.generation.DecodingOptions`.

        Returns:
            A list of str, without the prompts; one str for one prompt; with `num_results` above 1 a
            list in place of each str.

        Raises:
            TypeError: a prompt is no text. ValueError: an option is wrong, or `max_tokens` leaves
            no room for a prompt.
        """
        one = isinstance(prompts, (str, bytes))
        chosen = self.decoding_options(**options)
        if draft is not None:
            self._check_draft(draft)
            batch_size = 1
        inputs = self._prompts([prompts] if one else prompts, chosen.max_tokens, truncate)
        batches = bucketed(inputs, self._pad_id, batch_size)
        answers = self.make(batches, stop, seed, verbose, "generate", draft, **options)
        if not details:
            answers = [[made.text for made in results] for results in answers]
        if chosen.num_results == 1:
            answers = [results[0] for results in answers]
        return answers[0] if one else answers

    def _check_draft(self, draft):
        if isinstance(draft, TextGenerator):
            if draft.tokenizer.vocabulary != self.tokenizer.vocabulary:
                raise ValueError("the draft has another vocabulary: it cannot guess these tokens")
            if draft.max_length < self.max_length:
                raise ValueError(
                    f"the draft reads {draft.max_length} tokens, this generator {self.max_length}; "
                    "make this one with max_length of the draft's"
                )
        elif draft != BY_PROMPT:
            raise ValueError(f'draft must be a TextGenerator or "{BY_PROMPT}", got {draft!r}')

    def stream(self, prompt, stop=None, seed=None, truncate=True, **options):
        """The continuation of one prompt in pieces, as it is made; together they are `generate`'s.

        A character is never cut, and no part of a stop string is shown.

        Args:
            prompt, stop, seed, truncate, options: as in `generate`, but with one result.
        """
        chosen = self.decoding_options(**options)
        stop = self.stop if stop is None else stop_strings(stop)
        if chosen.beams > 1 or chosen.num_results > 1:
            raise ValueError(
                f"a stream is one text that only grows, got beams={chosen.beams} and "
                f"num_results={chosen.num_results}; use generate"
            )
        inputs = self._prompts([prompt], chosen.max_tokens, truncate)
        inputs = {name: ragged.to_tensor() for name, ragged in inputs.items()}
        return before_stops(self._pieces(inputs, chosen, stop, seed), stop)

    def _pieces(self, inputs, options, stop, seed):
        """The texts of tokens, as they are made."""
        if options.max_tokens == 0:
            return
        text = TextStream(self.tokenizer)
        start, advance = self._stream_graphs(options, stop)
        state, tokens, goes_on = start(inputs, *decode_arguments(options, 1, seed))
        while True:
            for token in tokens.numpy():
                yield text.add(token)
            if not goes_on:
                break
            state, tokens, goes_on = advance(state)
        yield text.finish()

    def _stream_graphs(self, options, stop):
        """`Decoder.start` and `.advance`, each giving state, new tokens, and whether to go on."""
        options = traced_options(options)
        key = "stream", options, stop
        if key not in self._decode_graphs:
            decoder = self.decoder(options, stop)

            def seen(state, before):
                tokens = state["tokens"][0, 0, before : state["step"]]
                return state, tokens, decoder.unfinished(state)

            def start(inputs, *arguments):
                return seen(decoder.start(self.model_inputs(inputs), *arguments), 0)

            def advance(state):
                return seen(decoder.advance(state), state["step"])

            signature = self.decode_signature(options)
            start = tf.function(start, input_signature=signature, autograph=False)
            state, _, _ = tf.nest.map_structure(
                lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype),
                start.get_concrete_function().structured_outputs,
            )
            advance = tf.function(advance, input_signature=[state], autograph=False)
            self._decode_graphs[key] = start, advance
        return self._decode_graphs[key]

    # Probabilities

    def score(self, texts, prompts=None, batch_size=None, verbose="auto"):
        """A `Score` for each text: the log-probability of every token.

        The first token of all is predicted from the token that begins a text; with a tokenizer
        that has none, it is left out. Where a text is longer than the context, every token sees at
        least half a context before it.

        Args:
            texts: list of strings.
            prompts: list of strings that come before them and are not scored; prompt and text are
                tokenized apart, so a text may have to begin with a space.
            batch_size: sequences a step.
            verbose: as in `generate`.
        """
        endings = self._tokenized(texts, "texts")
        if prompts is None:
            prompts = [""] * len(endings)
        if len(prompts) != len(endings):
            raise ValueError(f"got {len(endings)} texts, but {len(prompts)} prompts")
        rows = [
            (beginning or self._beginning) + ending
            for beginning, ending in zip(self._tokenized(prompts, "prompts"), endings, strict=True)
        ]
        counts = [min(len(ending), len(row) - 1) for row, ending in zip(rows, endings, strict=True)]
        log_probs = self._log_probs(rows, counts, batch_size, verbose)
        return [
            Score(
                tuple(row[len(row) - count :]),
                tuple(self.tokenizer.vocabulary[i] for i in row[len(row) - count :]),
                tuple(values.tolist()),
            )
            for row, count, values in zip(rows, counts, log_probs, strict=True)
        ]

    def perplexity(self, texts, batch_size=None, verbose="auto"):
        """`exp` of the mean negative log-probability of all tokens of all texts, as in `score`."""
        scores = self.score(texts, batch_size=batch_size, verbose=verbose)
        count = sum(len(score.log_probs) for score in scores)
        if not count:
            raise ValueError("the texts have no tokens to measure the perplexity of")
        return math.exp(-math.fsum(score.total for score in scores) / count)

    def choose(self, prompts, choices, normalize=True, batch_size=None, verbose="auto"):
        """Which continuation of each prompt is the most probable: classification without training.

        Args:
            prompts: a list of strings, or one string.
            choices: strings, or for each prompt a list of them; see `score` on their beginnings.
            normalize: compare the mean log-probability of the tokens, not their sum.
            batch_size, verbose: as in `score`.

        Returns:
            A list of `Choice`; one `Choice` for one prompt.
        """
        if isinstance(prompts, (str, bytes)):
            return self.choose([prompts], [choices], normalize, batch_size, verbose)[0]
        if len(choices) and isinstance(choices[0], str):
            choices = [choices] * len(prompts)
        if len(choices) != len(prompts):
            raise ValueError(f"got {len(prompts)} prompts, but {len(choices)} lists of choices")
        pairs = [(p, c) for p, several in zip(prompts, choices, strict=True) for c in several]
        if not all(several and all(several) for several in choices):
            raise ValueError("every prompt needs at least one choice, and no choice may be empty")
        scores = self.score([c for _, c in pairs], [p for p, _ in pairs], batch_size, verbose)
        scores = iter(scores)
        answers = []
        for several in choices:
            scored = {choice: next(scores) for choice in several}
            means = {choice: score.mean for choice, score in scored.items()}
            totals = {choice: score.total for choice, score in scored.items()}
            compared = means if normalize else totals
            best = max(compared, key=compared.get)
            answers.append(Choice(best, compared[best], means, totals))
        return answers

    def _log_probs(self, rows, counts, batch_size, verbose):
        """Of the last `counts` tokens of each row of ids: a list of float32 `[count]`."""
        results = [np.zeros(count, "float32") for count in counts]
        pieces = [
            (index, piece)
            for index, (row, count) in enumerate(zip(rows, counts, strict=True))
            for piece in windows(len(row) - 1, self.max_length, len(row) - 1 - count)
        ]
        if not pieces:
            return results
        inputs = [rows[index][start : end + 1] for index, (start, end, _) in pieces]
        batches = text_data.LengthBucketedBatches(
            {"token_ids": tf.ragged.constant(inputs, tf.int32)},
            None,
            batch_size or language_data.batch_size_for(self.max_length),
            self._pad_id,
            "sorted",
        )
        for step in progress(batches.num_batches, "score", verbose):
            ((inputs,),) = (batches[step],)
            log_probs = self.log_probs_graph(inputs["token_ids"]).numpy()
            for place, which in enumerate(batches.rows[step]):
                index, (start, end, first) = pieces[which]
                offset = len(rows[index]) - 1 - counts[index]  # of the first token that counts
                first = max(first, offset)
                results[index][first - offset : end - offset] = log_probs[
                    place, first - start : end - start
                ]
        return results

    def log_probs(self, token_ids):
        """int32 `[batch, seq]` to log-probabilities `[batch, seq - 1]` of all but the first."""
        logits = self({"token_ids": token_ids[:, :-1]}, training=False)
        return log_probability(tf.cast(logits, tf.float32), token_ids[:, 1:])

    def scoring_signature(self, batch=None, length=None):
        length = None if length is None else length + self.decoding.max_tokens
        return {"token_ids": tf.TensorSpec([batch, length], tf.int32, "token_ids")}

    def scored(self, inputs, made):
        """The first results behind their prompts."""
        rows = [
            [*ids[mask], *results[0][: counts[0]]]
            for ids, mask, results, counts in zip(
                inputs["token_ids"],
                inputs["padding_mask"],
                made["token_ids"],
                made["lengths"],
                strict=True,
            )
        ]
        length = inputs["token_ids"].shape[1] + self.decoding.max_tokens
        token_ids = np.full((len(rows), length), self._pad_id, "int32")
        for place, row in zip(token_ids, rows, strict=True):
            place[: len(row)] = row
        counts = np.array([[len(row)] for row in rows])
        return {"token_ids": token_ids}, np.arange(1, length) < counts

    # From texts to tokens

    @property
    def _beginning(self):
        return beginning_of(self.tokenizer)

    @property
    def _pad_id(self):
        return 0 if self.tokenizer.pad_id is None else self.tokenizer.pad_id

    def _tokenized(self, texts, name):
        return self.tokenizer.tokenize(as_strings(texts, name)).to_list()

    def _prompts(self, prompts, max_tokens, truncate):
        """Ragged `token_ids` and `padding_mask` of prompts that leave room for `max_tokens`."""
        room = self._room(max_tokens)
        token_ids = self.tokenizer.tokenize(as_strings(prompts, "prompts"))
        lengths = token_ids.row_lengths().numpy()
        too_long = np.flatnonzero(lengths > room)
        if len(too_long):
            first = too_long[0]
            message = (
                f"prompts[{first}] has {lengths[first]} tokens, but max_tokens={max_tokens} "
                f"leaves room for {room} in a context of {self.max_length}"
            )
            if not truncate:
                raise ValueError(message)
            warnings.warn(
                f"{message}: {len(too_long)} of {len(lengths)} prompts are cut on the left",
                stacklevel=3,
            )
        if not self._beginning and len(lengths) and not lengths.all():
            raise ValueError(
                f"prompts[{np.argmin(lengths)}] is empty, and the tokenizer has no token that "
                "begins a text; write at least one word"
            )
        token_ids = last_tokens(self.tokenizer, token_ids, room)
        mask = token_ids.with_flat_values(tf.ones_like(token_ids.flat_values, tf.bool))
        return {"token_ids": token_ids, "padding_mask": mask}

    def _room(self, max_tokens):
        """Tokens of a prompt before `max_tokens` others."""
        if max_tokens >= self.max_length:
            raise ValueError(
                f"max_tokens={max_tokens} leaves no room for a prompt in a context of "
                f"{self.max_length} tokens; it may be {self.max_length - 1} at most"
            )
        return self.max_length - max_tokens

    # Serving

    def static_length(self, max_length=None):
        return min(super().static_length(max_length), self._room(self.decoding.max_tokens))

    def tokenized(self, text, pair=None, max_length=None, padding="longest"):
        """As of every task; prompts that are too long lose their beginning, in silence."""
        room = self._room(self.decoding.max_tokens)
        room = room if max_length is None else min(room, self.checked_max_length(max_length))
        return tokenized_prompts(self.tokenizer, text, room, padding)

    # Presets

    @classmethod
    def from_preset(
        cls,
        name,
        vocabulary=None,
        max_length=None,
        decoding=None,
        stop=None,
        load_weights=True,
        dtype=None,
        **kwargs,
    ):
        """A pretrained or trained generator, or one of a size with random weights.

        Args:
            name: as in `lingxi.zoo.Gpt.from_preset`, or a directory that `save_preset` wrote.
            vocabulary: a directory with the files of a tokenizer, or a `lingxi.text.Tokenizer`,
                for a preset that has none.
            max_length, decoding, stop: as in the constructor, by default what the directory says.
            load_weights: False for random weights.
            dtype: a Keras dtype policy such as "mixed_bfloat16".
        """
        parts = cls.load_parts(name, vocabulary, load_weights, dtype)
        backbone, tokenizer, _, config = parts
        saved = (config or {}).get("lingxi", {})
        return cls(
            backbone,
            tokenizer,
            max_length=max_length or saved.get("max_length"),
            decoding=decoding or saved.get("decoding"),
            stop=saved.get("stop", ()) if stop is None else stop,
            dtype=dtype,
            **kwargs,
        )

    def preset_config(self):
        config = super().preset_config()
        return {
            **config,
            "bos_token_id": (self._beginning or [None])[0],
            "eos_token_id": self.tokenizer.eos_id,
            "pad_token_id": self.tokenizer.pad_id,
            "lingxi": {
                **config["lingxi"],
                "decoding": dataclasses.asdict(self.decoding),
                "stop": list(self.stop),
            },
        }

    def checkpoint_table(self):
        """Variables and their names in a `…ForCausalLM` checkpoint."""
        return self.backbone.checkpoint_table()


def windows(count, size, first=0):
    """`(start, end, new)` of windows of at most `size` over targets `first` to `count`.

    The targets from `new` to `end` are not in an earlier window; but in the first one, at least
    half of a window is before them.
    """
    end = min(count, size)
    if end > first:
        yield 0, end, 0
    while end < count:
        new, end = end, min(end + max(1, size // 2), count)
        if end > first:
            yield end - size, end, new
