"""Span corruption: a T5 that restores missing spans, and learns language by that."""

import dataclasses
import json

import keras
import tensorflow as tf

from lingxi.answers.batches import split_pairs
from lingxi.tasks import language_data, pair_data, text_data
from lingxi.tasks.generation import bucketed
from lingxi.tasks.masking import lines
from lingxi.tasks.sequence_to_sequence import (
    SequenceToSequence,
    config_for,
    learn_sentence_piece,
)
from lingxi.tasks.span_masking import (
    MixedBatches,
    SpanBatches,
    SpanMasking,
    filled,
    sentinels_of,
    spans_in,
    with_sentinels,
)
from lingxi.tasks.token_cache import caches
from lingxi.text import SentencePieceTokenizer
from lingxi.text.strings import as_strings
from lingxi.training import Perplexity, TokenAccuracy, run_seed
from lingxi.zoo import T5, Bert, T5Config, preset

MOST_SPANS = 32  # of a text that are filled
SMALL = T5Config(
    hidden_dim=256,
    num_encoder_layers=4,
    num_decoder_layers=4,
    num_heads=4,
    intermediate_dim=512,
    activation="gelu_tanh",
    gated=True,
)


@dataclasses.dataclass(frozen=True)
class FilledText:
    """A text whose missing spans a model wrote.

    Attributes:
        text: the whole of it.
        spans: what stands in the place of each sentinel, without blanks around it; "" where the
            model wrote nothing.
        score: what beams were compared by, else the log-probability of all that was written.
    """

    text: str
    spans: tuple
    score: float


@keras.saving.register_keras_serializable(package="lingxi")
class SpanLanguageModel(SequenceToSequence):
    """A T5 that learns to restore missing spans, trained and called on raw text.

    `fit` leaves out spans of plain texts, others in every epoch, and puts sentinels in their
    place; the decoder learns to write each sentinel and its span (Raffel et al. 2020, section
    3.1.4). What `save_preset` writes is a T5 to fine-tune, by `Summarizer.from_preset` or any other
    task of T5, or by `T5ForConditionalGeneration` of `transformers`.

    Args:
        backbone: a `lingxi.zoo.T5`.
        tokenizer: the backbone's `lingxi.text.SentencePieceTokenizer`, with sentinels.
        mask_rate: the share of the tokens that are to be restored.
        mean_span: tokens of a span, on average.
        label_smoothing: of the default loss.
        args, kwargs: of `lingxi.tasks.sequence_to_sequence.SequenceToSequence`: `max_length`,
            `decoding`, ….

    Raises:
        TypeError: another backbone. ValueError: a tokenizer without sentinels.
    """

    architectures = (T5,)
    verb = "fill"
    reads_text_in_tflite = False  # it cannot split a text at its sentinels

    def __init__(
        self,
        backbone,
        tokenizer,
        *args,
        mask_rate=0.15,
        mean_span=3.0,
        label_smoothing=0.0,
        **kwargs,
    ):
        if not isinstance(backbone, T5):
            raise TypeError(
                f"a SpanLanguageModel is of a lingxi.zoo.T5, got a {type(backbone).__name__}; the "
                "words of a lingxi.zoo.Bert are masked by a MaskedLanguageModel"
            )
        super().__init__(backbone, tokenizer, *args, label_smoothing=label_smoothing, **kwargs)
        if len(getattr(tokenizer, "sentinel_ids", ())) < 2:
            raise ValueError(
                "the tokenizer has no sentinels, <extra_id_0> and so on; pass num_sentinels=100 to "
                "the SentencePieceTokenizer (extra_ids in tokenizer_config.json)"
            )
        self.masking = SpanMasking(tokenizer, mask_rate, mean_span)
        self.mask_rate = mask_rate
        self.mean_span = mean_span

    # Training

    def default_metrics(self):
        """Perplexity and accuracy of the tokens of the target."""
        return [Perplexity(), TokenAccuracy()]

    def fit(
        self,
        x=None,
        validation_data=None,
        pairs=None,
        epochs=1,
        batch_size=None,
        steps_per_epoch=None,
        max_length=None,
        shuffle=True,
        seed=None,
        resume=None,
        cache=None,
        **kwargs,
    ):
        """Train on plain texts, packed into blocks without padding.

        Other spans are left out in every epoch, of other blocks.

        Args:
            x: path of a text file (`str` or `Path`) or list of `Path`s; a list of documents; a
                `tf.data.Dataset` of documents; or anything that `keras.Model.fit` takes, already
                tokenized.
            validation_data: of the same kinds, always the same spans of them; or `(sources,
                targets)`, pairs of texts.
            pairs: labelled tasks to learn at the same time, as texts: sources and what to write, in
                any form that `Translator.fit` takes but a data set. A pass has each pair once; give
                one more often, and it is learned more often. Begin the sources of a task with its
                name: `("mnli premise: … hypothesis: …", "entailment")`.
            epochs: passes over all texts and pairs, or as many times `steps_per_epoch`.
            batch_size: blocks a step; by default 32, and fewer of more than 256 tokens. Pairs are
                put together to batches of as many tokens.
            steps_per_epoch: batches of what is called an epoch; the texts are repeated as needed.
            max_length: of a source, in tokens; by default the task's.
            shuffle: blocks and pairs in random order.
            seed: of order and spans.
            resume: a directory to go on from after a failure, see `Task.fit`.
            cache: a directory to keep the tokens of text files in, for files larger than memory:
                they are tokenized once, and read from there in this training and in later ones.
            kwargs: as in `lingxi.tasks.Translator.fit`: `learning_rate`, `callbacks`, ….
        """
        seed = run_seed(resume, seed)
        stored, validation_stored = caches(cache, x, validation_data, kwargs.get("verbose"))
        if language_data.is_text(x):
            repeat = steps_per_epoch is not None
            x = self.span_batches(x, batch_size, max_length, shuffle, seed, repeat, pairs, stored)
        elif pairs is not None:
            raise ValueError(f"pairs are mixed with texts, but x is {type(x).__name__}")
        if language_data.is_text(validation_data) and not isinstance(validation_data, tuple):
            validation_data = self.span_batches(
                validation_data, batch_size, max_length, cache=validation_stored
            )
        return super().fit(
            x,
            validation_data=validation_data,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            shuffle=shuffle,
            seed=seed,
            resume=resume,
            **kwargs,
        )

    def evaluate(self, x=None, y=None, batch_size=None, max_length=None, **kwargs):
        """Loss, perplexity and accuracy; of texts always the same spans, of pairs their targets."""
        if y is None and language_data.is_text(x) and not isinstance(x, tuple):
            x, batch_size = self.span_batches(x, batch_size, max_length), None
        return super().evaluate(x, y, batch_size, **kwargs)

    def span_batches(
        self,
        x,
        batch_size=None,
        max_length=None,
        shuffle=False,
        seed=None,
        repeat=False,
        pairs=None,
        cache=None,
    ):
        """Texts as a data set of batches as `PairBatches` has them.

        Args:
            cache: a `lingxi.tasks.token_cache.TokenCache`, or None.
            x, …: as of `fit`.
        """
        max_length = self.checked_max_length(max_length)
        batch_size = batch_size or language_data.batch_size_for(max_length)
        start_id = self.backbone.config.decoder_start_id
        batches = SpanBatches(
            x, self.tokenizer, self.masking, max_length, batch_size, start_id, shuffle, seed, cache
        )
        if pairs is not None:
            order = "shuffled" if shuffle else "sorted"
            sources, targets = pair_data.read_pairs(pairs)
            tokens = batch_size * batches.length
            labelled = self.pair_batches(sources, targets, tokens, order=order, seed=seed)
            batches = MixedBatches([batches, labelled], shuffle, seed)
        dataset = batches.dataset()
        if repeat:
            dataset = dataset.repeat()
            dataset.source = batches
        return dataset

    def encode(self, x, y=None, max_length=None):
        """Texts, in which sentinels may be written out, to ragged inputs and ids of the targets."""
        if split_pairs(x)[1] is not None:
            raise ValueError("spans are filled in single texts, but got pairs")
        inputs = text_data.unpadded(self.tokenized(x, max_length=max_length))
        if y is None:
            return inputs, None
        max_length = self.checked_max_length(max_length)
        targets = with_sentinels(self.tokenizer, as_strings(y, "texts"), max_length, "longest")
        return inputs, text_data.unpadded(targets)["token_ids"]

    # The verb

    def fill(self, texts, batch_size=None, verbose="auto", **options):
        """Texts with what is missing.

        Args:
            texts: list or array of strings, or one str, with the sentinels "<extra_id_0>",
                "<extra_id_1>", … written out in this order, at most `MOST_SPANS` of them.
            batch_size: texts a step; texts are grouped by length, the answers keep their order.
            verbose: a progress bar: True, False, or "auto" (for more than 20 batches).
            options: of `lingxi.generation.DecodingOptions`, and `seed`, in place of those of the
                task: `beams`, `max_tokens`, `temperature`, `num_results`, ….

        Returns:
            A `FilledText` for each text; of one str just that; where `num_results` is more than
            one, a list of so many in place of each.

        Raises:
            ValueError: a text without sentinels, with too many or in another order; a text so long
                that a sentinel is cut off.
        """
        if isinstance(texts, str):
            return self.fill([texts], batch_size, verbose, **options)[0]
        if not len(texts):
            return []
        if options.get("temperature"):
            options.setdefault("beams", 1)
        inputs, _ = self.encode(texts)
        check_sentinels(texts, self.sentinels_among(inputs["token_ids"]).numpy())
        batches = bucketed(inputs, self.tokenizer.pad_id, batch_size)
        rows = self.make(batches, verbose=verbose, description="fill", **options)
        made = tf.ragged.constant([g.token_ids for row in rows for g in row], tf.int32, 1)
        lengths = tf.cast(made.row_lengths(), tf.int32)
        spans = iter(spans_in(made.to_tensor(), lengths, self.tokenizer, MOST_SPANS).numpy())
        answers = [
            [filled_text(text, next(spans), generation.score) for generation in row]
            for text, row in zip(as_strings(texts, "texts").numpy(), rows, strict=True)
        ]
        return answers if len(rows[0]) > 1 else [row[0] for row in answers]

    def sentinels_among(self, token_ids):
        """How many sentinels each row has: int32 `[batch, seq]` or ragged to int32 `[batch]`."""
        first, last = self.tokenizer.sentinel_ids[-1], self.tokenizer.sentinel_ids[0]
        is_sentinel = (token_ids >= first) & (token_ids <= last)
        return tf.reduce_sum(tf.cast(is_sentinel, tf.int32), axis=1)

    # Serving

    def tokenized(self, text, pair=None, max_length=None, padding="longest"):
        max_length = self.checked_max_length(max_length)
        return with_sentinels(self.tokenizer, self._prompted(text), max_length, padding)

    def answers(self, inputs, uniform=None, **arguments):
        """As of every task that makes text; and `count` int32 `[batch]`, the sentinels."""
        answers = super().answers(inputs, uniform, **arguments)
        return {**answers, "count": self.sentinels_among(inputs["token_ids"])}

    def readable(self, answers):
        """`answers`, and their `spans`, string `[batch, results, MOST_SPANS]`, as `spans_in`.

        Those of sentinels that a text does not have are empty.
        """
        token_ids, lengths = answers["token_ids"], answers["lengths"]
        _, results, steps = token_ids.shape
        flat = tf.reshape(token_ids, [-1, steps])
        spans = spans_in(flat, tf.reshape(lengths, [-1]), self.tokenizer, MOST_SPANS)
        spans = tf.reshape(spans, [-1, results, MOST_SPANS])
        is_wanted = tf.sequence_mask(answers["count"], MOST_SPANS)  # [batch, MOST_SPANS]
        return {"spans": tf.where(tf.expand_dims(is_wanted, 1), spans, ""), **answers}

    # Presets

    @classmethod
    def from_scratch(
        cls, x, config=SMALL, vocab_size=8000, max_length=512, num_sentinels=100, **kwargs
    ):
        """A new model, with a SentencePiece vocabulary learned from the texts.

        Args:
            x: texts, in any form that `fit` takes.
            config: `lingxi.zoo.T5Config`, or the name of a size such as "t5_v1_1_small". Its
                vocabulary and special tokens are replaced.
            vocab_size: pieces, special tokens and sentinels included.
            max_length: longest source and target in tokens.
            num_sentinels: one more than a source may have spans.
            kwargs: of the task.

        Raises:
            ImportError: the extra `tokenizers` is not installed.
        """
        texts = [line for _, line in lines(x)]
        tokenizer = SentencePieceTokenizer(
            learn_sentence_piece(texts, vocab_size - num_sentinels),
            max_length=max_length,
            num_sentinels=num_sentinels,
        )
        config = T5.presets[config] if isinstance(config, str) else config
        return cls(T5(config_for(config, tokenizer)), tokenizer, **kwargs)

    @classmethod
    def from_preset(cls, name, mask_rate=None, mean_span=None, **kwargs):
        """A T5 to train further or to fill spans with, or a size with random weights.

        Args:
            name: a directory of a T5 of Hugging Face or one that `save_preset` wrote; or a size of
                `lingxi.zoo.T5`, which takes its vocabulary size from `vocabulary`.
            mask_rate, mean_span: by default what the directory says, else 0.15 and 3.
            kwargs: of `SequenceToSequence.from_preset`: `vocabulary`, `max_length`, ….

        Raises:
            ValueError: no T5, or one whose tokenizer has no sentinels.
        """
        config = {}
        if name not in T5.presets and name not in Bert.presets:
            config = json.loads((preset.resolve(name) / preset.CONFIG_NAME).read_text("utf-8"))
        if name in Bert.presets or config.get("model_type") in Bert.layouts:
            raise ValueError(
                f"{str(name)!r} is an encoder, which learns to restore masked words: open it by "
                "lingxi.tasks.MaskedLanguageModel"
            )
        saved = config.get("lingxi", {})
        given = {"mask_rate": mask_rate, "mean_span": mean_span}
        settings = {n: saved.get(n) if v is None else v for n, v in given.items()}
        settings = {n: v for n, v in settings.items() if v is not None}
        return super().from_preset(name, **settings, **kwargs)

    @classmethod
    def default_decoding(cls):
        """What is decoded how where nobody says it."""
        return {"beams": 1, "max_tokens": 64}

    def preset_config(self):
        contents = super().preset_config()
        own = {"mask_rate": self.mask_rate, "mean_span": self.mean_span}
        return {**contents, "lingxi": {**contents["lingxi"], **own}}

    def get_config(self):
        return {
            **super().get_config(),
            "mask_rate": self.mask_rate,
            "mean_span": self.mean_span,
        }


def check_sentinels(texts, counts):
    """Raise ValueError unless every text has sentinels in their order, and none was cut off.

    Args:
        counts: int `[texts]`, how many the model sees.
    """
    for index, text in enumerate(as_strings(texts, "texts").numpy()):
        found = sentinels_of(text.decode())
        if not 1 <= len(found) <= MOST_SPANS or found != _sentinels(len(found)):
            raise ValueError(
                f"text {index}, {text.decode()!r}, has the sentinels {found}; write <extra_id_0>, "
                f"<extra_id_1>, … in this order in the place of each missing span, 1 to "
                f"{MOST_SPANS} of them"
            )
        if counts[index] < len(found):
            raise ValueError(
                f"text {index} is too long: only {counts[index]} of its {len(found)} sentinels are "
                "within max_length"
            )


def _sentinels(count):
    return [f"<extra_id_{number}>" for number in range(count)]


def filled_text(text, spans, score):
    """`FilledText` of a text and its spans as `spans_in` gives them, all in bytes."""
    text = text.decode()
    spans = [span.decode(errors="replace") for span in spans[: len(sentinels_of(text))]]
    return FilledText(filled(text, spans), tuple(span.strip() for span in spans), float(score))
