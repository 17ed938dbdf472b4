"""Masked language modelling: an encoder that restores words, and learns language by that."""

import dataclasses
import json
import pathlib
import re

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from lingxi.answers.batches import split_pairs
from lingxi.layers import Dense, LayerNorm, get_activation
from lingxi.layers.gather import pick
from lingxi.tasks import language_data, text_data
from lingxi.tasks.fine_tuning import LEARNING_RATE
from lingxi.tasks.masking import Masking, examples, with_masks
from lingxi.tasks.task import Task
from lingxi.tasks.token_cache import caches
from lingxi.text.strings import as_strings
from lingxi.training import (
    KlDivergence,
    Perplexity,
    TokenAccuracy,
    TokenCrossEntropy,
    run_seed,
    token_divergence,
)
from lingxi.zoo import T5, Bert, checkpoint, preset
from lingxi.zoo.huggingface.masked_language_model import MASKED_LANGUAGE_MODELS

MOST_MASKS = 8  # of a text that are filled
MOST_FILLINGS = 20  # of a mask
MISCOUNTED = 1.0  # the disagreement where an artifact sees other masks than its task


@dataclasses.dataclass(frozen=True)
class Filling:
    """A token in the place of a mask.

    Attributes:
        token: what is written, without blanks around it.
        score: its probability.
        text: the text with it; other masks are still there.
    """

    token: str
    score: float
    text: str


@keras.saving.register_keras_serializable(package="lingxi")
class MaskedLanguageModel(Task):
    """An encoder with a head over its vocabulary, trained and called on raw text.

    As a Keras model it takes what `tokenizer` returns and gives logits `[batch, seq, vocab]`. With
    the input `masked_positions` int `[batch, masked]` it gives those there, `[batch, masked,
    vocab]`: in training the head works on the 15 % of the tokens that have something to restore.
    With `next_sentence` it gives a dict: these are `tokens`, and `next_sentence` `[batch, 2]` are
    the logits of a second segment that follows the first, and of one that does not.

    Args:
        backbone: a `lingxi.zoo.Bert`.
        tokenizer: the backbone's `lingxi.text.Tokenizer`, with a mask token.
        next_sentence: learn from pairs of segments whether the second follows the first, as BERT
            does and RoBERTa does not.
        mask_rate: the share of the tokens that are to be restored.
        whole_words: mask all tokens of a word or none.
        max_length: longest sequence in tokens; longer texts are cut. By default the shorter of
            the tokenizer's and the backbone's maximum.

    Raises:
        TypeError: another backbone.
        ValueError: a tokenizer without a mask token; `next_sentence` of an encoder without a
            pooler, or of a kind for which `transformers` has no such head.
    """

    architectures = (Bert,)
    verb = "fill"
    takes_pairs = False

    def __init__(
        self,
        backbone,
        tokenizer,
        next_sentence=False,
        mask_rate=0.15,
        whole_words=True,
        max_length=None,
        **kwargs,
    ):
        if not isinstance(backbone, Bert):
            raise TypeError(
                f"a MaskedLanguageModel is of a lingxi.zoo.Bert, got a {type(backbone).__name__}; "
                "a lingxi.zoo.T5 learns to restore spans as a SpanLanguageModel"
            )
        super().__init__(backbone, tokenizer, max_length, **kwargs)
        if tokenizer.mask_id is None:
            raise ValueError("the tokenizer has no mask token (special token 'mask')")
        c = backbone.config
        self._layout = MASKED_LANGUAGE_MODELS[c.model_type]
        if next_sentence and (backbone.pooler is None or self._layout.next_sentence is None):
            raise ValueError(
                "next_sentence needs an encoder of model type 'bert' with a pooler; this is "
                f"{c.model_type!r} {'without' if backbone.pooler is None else 'with'} one"
            )
        self.next_sentence = next_sentence
        self.masking = Masking(tokenizer, mask_rate, whole_words)
        self.mask_rate = mask_rate
        self.whole_words = whole_words

        width, dtype = c.embedding_dim or c.hidden_dim, backbone.dtype_policy
        initializer = keras.initializers.TruncatedNormal(stddev=c.initializer_range)
        self.hidden = Dense(
            width,
            activation=get_activation(self._layout.activation or c.activation),
            kernel_initializer=initializer.clone(),
            dtype=dtype,
            name="hidden",
        )
        self.hidden.build((None, c.hidden_dim))
        self.norm = LayerNorm(epsilon=c.norm_epsilon, dtype=dtype, name="norm")
        self.norm.build((None, width))
        self.output_bias = self.add_weight(
            name="output_bias",
            shape=(c.vocab_size,),
            initializer="zeros",
            dtype="float32",
            autocast=False,
        )
        self.next_sentence_head = None
        if next_sentence:
            self.next_sentence_head = Dense(
                2, kernel_initializer=initializer, dtype="float32", name="next_sentence_head"
            )
            self.next_sentence_head.build((None, c.hidden_dim))
        elif backbone.pooler is not None:
            backbone.pooler.trainable = False  # nobody reads it
        self.built = True

    # The Keras model

    def call(self, inputs, training=None):
        positions = inputs.get("masked_positions")
        names = ("token_ids", "segment_ids", "padding_mask")
        outputs = self.backbone({n: inputs[n] for n in names if n in inputs}, training=training)
        x = outputs["sequence_output"]  # [batch, seq, hidden]
        if positions is not None:
            x = pick(x, positions)  # [batch, masked, hidden]
        tokens = self._logits(x)
        if not self.next_sentence:
            return tokens
        follows = self.next_sentence_head(outputs["pooled_output"])
        return {"tokens": tokens, "next_sentence": follows}

    def _logits(self, x):
        """`norm(f(x W + b)) Eᵀ + c` with the token embeddings `E`: `[batch, …, vocab]`."""
        x = self.norm(self.hidden(x))
        return ops.cast(self.backbone.token_embedding.logits(x), "float32") + self.output_bias

    def default_loss(self):
        """Cross-entropy of the masked tokens, and of whether the second segment follows."""
        if not self.next_sentence:
            return TokenCrossEntropy()
        follows = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return {"tokens": TokenCrossEntropy(), "next_sentence": follows}

    def default_metrics(self):
        """Perplexity and accuracy at the masked tokens, and accuracy of the next sentence."""
        tokens = [Perplexity(), TokenAccuracy()]
        if not self.next_sentence:
            return tokens
        follows = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        return {"tokens": tokens, "next_sentence": [follows]}

    def metrics_example(self):
        """Targets and logits of one example."""
        logits = np.zeros((1, 1, self.backbone.config.vocab_size), "float32")
        targets = np.zeros((1, 1), "int32")
        if not self.next_sentence:
            return targets, logits
        follows = np.zeros(1, "int32"), np.zeros((1, 2), "float32")
        return (
            {"tokens": targets, "next_sentence": follows[0]},
            {"tokens": logits, "next_sentence": follows[1]},
        )

    def divergence(self, x, y, outputs, others, sample_weight=None):
        if not self.next_sentence:
            return token_divergence(y, outputs, others, sample_weight)
        tokens = token_divergence(y["tokens"], outputs["tokens"], others["tokens"], sample_weight)
        follows = KlDivergence()(outputs["next_sentence"], others["next_sentence"], sample_weight)
        return tokens + follows

    def fit(
        self,
        x=None,
        validation_data=None,
        epochs=1,
        batch_size=None,
        steps_per_epoch=None,
        max_length=None,
        shuffle=True,
        seed=None,
        learning_rate=LEARNING_RATE,
        resume=None,
        cache=None,
        **kwargs,
    ):
        """Train on plain texts, packed into sequences without much padding.

        Other tokens are masked in every epoch, and other pairs of segments drawn.

        Args:
            x: path of a text file (`str` or `Path`) or list of `Path`s, where a line is a sentence
                or a paragraph and blank lines stand between documents; a list of documents; a
                `tf.data.Dataset` of documents; or anything that `keras.Model.fit` takes, with the
                input `masked_positions`.
            validation_data: of the same kinds; always masked in the same way.
            epochs: passes over all texts, or as many times `steps_per_epoch`.
            batch_size: sequences a step; by default 32, and fewer of more than 256 tokens.
            steps_per_epoch: batches of what is called an epoch; the texts are repeated as needed.
            max_length: of a sequence, in tokens; by default the task's.
            shuffle: sequences in random order.
            seed: of order, masks and pairs.
            learning_rate: the peak of the default schedule, 5e-5, which is for a trained model; one
                that starts at random takes more, 1e-4 if it is large, 1e-3 if it is tiny. An
                optimizer given to `compile` has its own.
            resume: a directory to go on from after a failure, see `Task.fit`.
            cache: a directory to keep the tokens of text files in, for files larger than memory:
                they are tokenized once, and read from there in this training and in later ones.
            kwargs: as in `keras.Model.fit`.
        """
        seed = run_seed(resume, seed)
        repeat = steps_per_epoch is not None
        stored, validation_stored = caches(cache, x, validation_data, kwargs.get("verbose"))
        x = self.masked_batches(x, batch_size, max_length, shuffle, seed, repeat, stored)
        if validation_data is not None and not isinstance(validation_data, tuple):
            validation_data = self.masked_batches(
                validation_data, batch_size, max_length, cache=validation_stored
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

    def evaluate(self, x=None, batch_size=None, max_length=None, **kwargs):
        """Loss, perplexity and accuracy on anything that `fit` takes; always the same masks."""
        return super().evaluate(self.masked_batches(x, batch_size, max_length), **kwargs)

    def predict(self, x, **kwargs):
        """Logits of tokenized inputs, as in Keras.

        Raises:
            TypeError: for texts, whose logits would fill the memory.
        """
        if language_data.is_text(x):
            raise TypeError("predict gives the logits of tokenized inputs; for texts, use fill")
        return super().predict(x, **kwargs)

    def masked_batches(
        self,
        x,
        batch_size=None,
        max_length=None,
        shuffle=False,
        seed=None,
        repeat=False,
        cache=None,
    ):
        """Texts as a data set of masked batches; what is none, as it is.

        Args:
            cache: a `lingxi.tasks.token_cache.TokenCache`, or None.
            x, …: as of `fit`.
        """
        if not language_data.is_text(x):
            return x
        max_length = self.checked_max_length(max_length)
        return examples(
            x,
            self.tokenizer,
            self.masking,
            max_length,
            batch_size or language_data.batch_size_for(max_length),
            self.next_sentence,
            shuffle,
            seed,
            repeat,
            cache,
        )

    # The verb

    def fill(self, texts, top_k=5, batch_size=None, verbose="auto"):
        """What may stand in the place of each mask, the most probable first.

        Args:
            texts: list or array of strings, or one str, with the tokenizer's mask token written
                out ("[MASK]" of BERT, "<mask>" of RoBERTa) one to `MOST_MASKS` times.
            top_k: fillings of a mask, at most `MOST_FILLINGS`.
            batch_size: texts a step; texts are grouped by length, the answers keep their order.
            verbose: a progress bar: True, False, or "auto" (for more than 20 batches).

        Returns:
            For each text a list with one list of `Filling` for each of its masks, also where it
            has only one; of one str that of this text.

        Raises:
            ValueError: a text without masks, or with too many; a text so long that a mask is cut
                off.
        """
        if isinstance(texts, str):
            return self.fill([texts], top_k, batch_size, verbose)[0]
        check_masks(texts, self.mask_token, top_k)
        answers = self.answers_to(texts, batch_size, verbose, "fill")
        return fillings(texts, pieces_of(answers, self.tokenizer), self.mask_token, top_k)

    @property
    def mask_token(self):
        """How a mask is written in a text."""
        return self.tokenizer.special_tokens["mask"]

    def encode(self, x, y=None, max_length=None):
        """Texts with masks to ragged inputs `[texts, (seq)]`."""
        if split_pairs(x)[1] is not None:
            raise ValueError("masks are filled in single texts, but got pairs")
        texts = as_strings(x, "texts")
        return text_data.unpadded(self.tokenized(texts, max_length=max_length)), None

    # Serving

    def tokenized(self, text, pair=None, max_length=None, padding="longest"):
        max_length = self.checked_max_length(max_length)
        return with_masks(self.tokenizer, text, max_length, padding)

    @property
    def reads_text_in_tflite(self):
        """No: it cannot split a text at its masks."""
        return False

    def answers(self, inputs):
        """Tokenized inputs to the best tokens for the first masks, in TensorFlow's graph.

        Returns:
            `token_ids` int32 and `scores` float32 `[batch, MOST_MASKS, MOST_FILLINGS]`, zeros
            where a text has fewer masks, and `count` int32 `[batch]`, of all its masks.
        """
        is_mask = tf.equal(inputs["token_ids"], self.tokenizer.mask_id)  # [batch, seq]
        number = tf.cumsum(tf.cast(is_mask, tf.int32), axis=1) * tf.cast(is_mask, tf.int32)
        count = tf.reduce_max(number, axis=1)
        wanted = tf.reshape(tf.range(1, MOST_MASKS + 1), [1, MOST_MASKS, 1])
        is_wanted = tf.equal(tf.expand_dims(number, 1), wanted)  # [batch, masks, seq]
        places = tf.range(tf.shape(number)[1]) * tf.cast(is_wanted, tf.int32)
        outputs = self({**inputs, "masked_positions": tf.reduce_sum(places, axis=2)})
        logits = outputs["tokens"] if self.next_sentence else outputs

        probabilities = tf.nn.softmax(tf.cast(logits, tf.float32))
        if self.tokenizer.vocab_size < probabilities.shape[-1]:
            probabilities = probabilities[:, :, : self.tokenizer.vocab_size]
        most = min(MOST_FILLINGS, self.tokenizer.vocab_size)
        scores, token_ids = tf.math.top_k(probabilities, most)
        is_there = tf.reduce_any(is_wanted, axis=2, keepdims=True)  # [batch, masks, 1]
        return {
            "token_ids": token_ids * tf.cast(is_there, tf.int32),
            "scores": scores * tf.cast(is_there, tf.float32),
            "count": count,
        }

    def readable(self, answers):
        """`answers` with `tokens`, as they are written after others, in place of `token_ids`."""
        spelling = tf.constant(self.tokenizer.spelling.inside)
        return {
            "tokens": tf.gather(spelling, answers["token_ids"]),
            "scores": answers["scores"],
            "count": answers["count"],
        }

    def export_metadata(self):
        return {**super().export_metadata(), "mask_token": self.mask_token}

    def disagreement(self, expected, found):
        """By how much of a probability the best token of any mask is wrong, `[examples]`.

        1 where an artifact sees other masks.
        """
        wanted = pieces_of(expected, self.tokenizer)
        got = pieces_of(found, self.tokenizer)
        same = wanted["tokens"] == got["tokens"][..., :1]  # [examples, masks, fillings]
        error = wanted["scores"][..., 0] - np.where(same, wanted["scores"], 0.0).max(axis=-1)
        return np.where(expected["count"] == found["count"], error.max(axis=-1), MISCOUNTED)

    # Presets

    @classmethod
    def from_preset(
        cls,
        name,
        next_sentence=None,
        mask_rate=None,
        whole_words=None,
        max_length=None,
        vocabulary=None,
        load_weights=True,
        dtype=None,
        **kwargs,
    ):
        """A masked language model to train further or to fill masks with, or a new one.

        Args:
            name: as in `lingxi.zoo.Bert.from_preset`; a directory that `save_preset` wrote, or that
                of a `…ForMaskedLM` or `BertForPreTraining` of Hugging Face. Heads that are not in
                the directory start at random.
            next_sentence: by default what the directory says, else False.
            mask_rate, whole_words: by default what the directory says, else 0.15 and True.
            max_length: by default what the directory says, else the model's longest.
            vocabulary: path of a `vocab.txt`, a directory with the files of a tokenizer, or a
                `lingxi.text.Tokenizer`, for a preset that has none.
            load_weights: False for random weights.
            dtype: a Keras dtype policy such as "mixed_bfloat16".

        Raises:
            ValueError: as in the class; a T5; or a head that is not tied to the embeddings.
        """
        if _is_t5(name):
            raise ValueError(
                f"{str(name)!r} is a T5, which learns to restore spans: open it by "
                "lingxi.tasks.SpanLanguageModel"
            )
        parts = cls.load_parts(name, vocabulary, load_weights, dtype)
        backbone, tokenizer, directory, config = parts
        config = config or {}
        if not config.get("tie_word_embeddings", True):
            raise ValueError(
                f"{name!r} has output embeddings of its own (tie_word_embeddings is false); "
                "lingxi ties them to those of the input"
            )
        layout = MASKED_LANGUAGE_MODELS[backbone.config.model_type]
        if next_sentence is None:
            next_sentence = layout.pair_architecture in (config.get("architectures") or ())
        saved = config.get("lingxi", {})
        given = {"mask_rate": mask_rate, "whole_words": whole_words, "max_length": max_length}
        settings = {n: saved.get(n) if v is None else v for n, v in given.items()}
        settings = {n: v for n, v in settings.items() if v is not None}
        task = cls(backbone, tokenizer, next_sentence, dtype=dtype, **settings, **kwargs)
        if directory is not None and load_weights:
            task.load_heads(directory)
        return task

    def load_heads(self, directory):
        """The weights of the heads that a directory of Hugging Face has."""
        layout = self.backbone.layout
        table = checkpoint.prefixed(self.backbone.checkpoint_table(), layout.prefix)
        if checkpoint.contains(directory, f"{self._layout.hidden}.weight"):
            table += self._token_head()
        if self.next_sentence and checkpoint.contains(
            directory, f"{self._layout.next_sentence}.weight"
        ):
            table += self._next_sentence_head()
        checkpoint.load(table, directory, layout.prefix, layout.ignored)

    def preset_config(self):
        config = super().preset_config()
        own = {"mask_rate": self.mask_rate, "whole_words": self.whole_words}
        names = self._layout
        return {
            **config,
            "architectures": [
                names.pair_architecture if self.next_sentence else names.architecture
            ],
            "tie_word_embeddings": True,
            "lingxi": {**config["lingxi"], **own},
        }

    def checkpoint_table(self):
        """Variables and their names in a `…ForMaskedLM` or `BertForPreTraining` checkpoint."""
        table = checkpoint.prefixed(self.backbone.checkpoint_table(), self.backbone.layout.prefix)
        table += self._token_head()
        return table + self._next_sentence_head() if self.next_sentence else table

    def _token_head(self):
        names = self._layout
        others = () if names.other_bias is None else (names.other_bias,)
        return [
            *checkpoint.dense(self.hidden, names.hidden),
            *checkpoint.norm(self.norm, names.norm),
            checkpoint.Tensors(self.output_bias, (names.bias,), aliases=others),
        ]

    def _next_sentence_head(self):
        return checkpoint.dense(self.next_sentence_head, self._layout.next_sentence)

    def get_config(self):
        return {
            **super().get_config(),
            "next_sentence": self.next_sentence,
            "mask_rate": self.mask_rate,
            "whole_words": self.whole_words,
        }


def _is_t5(name):
    """Whether a preset is a T5, as far as this is known without the hub."""
    path = pathlib.Path(name).expanduser() / preset.CONFIG_NAME
    is_t5 = path.is_file() and json.loads(path.read_text("utf-8")).get("model_type") in T5.layouts
    return name in T5.presets or is_t5


def check_masks(texts, mask, top_k):
    """Raise ValueError unless every text has masks, but not too many, and `top_k` fits."""
    if not 1 <= top_k <= MOST_FILLINGS:
        raise ValueError(f"top_k must be from 1 to {MOST_FILLINGS}, got {top_k}")
    texts = as_strings(texts, "texts").numpy()
    for index, text in enumerate(texts):
        count = text.decode().count(mask)
        if not 1 <= count <= MOST_MASKS:
            raise ValueError(
                f"text {index}, {text.decode()!r}, has {count} masks; write {mask} in the place "
                f"of each missing token, 1 to {MOST_MASKS} times"
            )


def pieces_of(answers, tokenizer):
    """`answers`, or what `readable` made of them, with `tokens`: bytes `[texts, masks, k]`."""
    if "tokens" in answers:
        return answers
    spelling = np.array(tokenizer.spelling.inside, object)
    return {**answers, "tokens": spelling[answers["token_ids"]]}


def fillings(texts, answers, mask, top_k):
    """A list of lists of `Filling` for each text, from arrays of `tokens`, `scores` and `count`.

    Raises:
        ValueError: a mask was cut off.
    """
    filled = []
    for index, text in enumerate(as_strings(texts, "texts").numpy()):
        text = text.decode()
        places = [match.start() for match in re.finditer(re.escape(mask), text)]
        count = answers["count"][index]
        if count < len(places):
            raise ValueError(
                f"text {index} is too long: only {count} of its {len(places)} masks are within "
                "max_length"
            )
        rows = zip(answers["tokens"][index], answers["scores"][index], strict=True)
        filled.append(
            [
                [
                    _filling(text, place, mask, piece.decode(errors="replace"), float(score))
                    for piece, score in zip(pieces[:top_k], scores[:top_k], strict=True)
                ]
                for place, (pieces, scores) in zip(places, rows, strict=False)
            ]
        )
    return filled


def _filling(text, place, mask, piece, score):
    """A token that begins a word keeps the blanks before the mask, another joins what is there."""
    before, after = text[:place], text[place + len(mask) :]
    if not piece[:1].isspace():
        before = before.rstrip()
    token = piece.strip()
    return Filling(token, score, before + token + after)
