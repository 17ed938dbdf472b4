"""The SentencePiece tokenizers of T5 and Marian as TensorFlow graph operations."""

import base64
import functools
import re
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text
from tensorflow_text.python.ops.sentencepiece_tokenizer import gen_sentencepiece_tokenizer as ops

from lingxi.text.offsets import starts_character, text_bytes
from lingxi.text.packing import Template
from lingxi.text.sentence_piece_files import (
    BYTE,
    CONTROL,
    DEFAULT_MAX_LENGTH,
    SPECIAL_TOKENS,
    is_for_tflite,
    is_unigram,
    read_directory,
    read_pieces,
    write_directory,
)
from lingxi.text.spelling import Spelling
from lingxi.text.tokenizer import Tokenizer

SPACE = "▁"  # U+2581, as which pieces write a space
# What SentencePiece's usual normalization (nmt_nfkc) turns into a space.
BLANKS = (
    "\t\n\r\f \xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u200b\u200e\u200f\u2028\u2029\u202f\u205f\u2581\u3000\ufeff\ufffd"
)
LANGUAGE_CODE = "(?s)(>>.*?<<)(.*)"  # of Marian models that translate into several languages
HASH_BUCKETS = 2**62
MAX_PATH = 4096  # characters; a longer string is a model in base64


class SentencePieceTokenizer(Tokenizer):
    """Strings to the token ids of T5 or Marian, in TensorFlow, `tf.data` or a SavedModel.

    The ids end with "</s>": `a </s>`, and for pairs T5's `a </s> b </s>`. Of the cuts of a run of
    one character that are equally probable ("!!!!!!" as "!" and "!!!!!") it takes that of
    `transformers`, the shorter pieces first. With a `vocabulary` it is Marian's tokenizer: the
    model only cuts texts into pieces, whose ids come from the vocabulary, and a text may begin with
    a language code such as ">>fr<<".

    Args:
        model: A serialized SentencePiece model, as bytes, in base64, or the path of its file.
        vocabulary: The tokens in the order of their ids; None: the pieces of the model.
        target_model: For Marian, the model of the language that is translated into.
        max_length: The longest sequence, special tokens included, that a call may return.
        special_tokens: Other names of the special tokens, e.g. `{"pad": "[PAD]"}`.
        num_sentinels: How many tokens "<extra_id_0>" … follow the pieces, in falling order.

    Attributes:
        sentinel_ids: The ids of "<extra_id_0>", "<extra_id_1>" ….
        target: The tokenizer of the target language; itself where there is but one.

    Raises:
        ValueError: A model is none, has byte pieces, or the vocabulary lacks a special token.
    """

    def __init__(
        self,
        model: bytes | str | PathLike,
        vocabulary: Sequence[str] | None = None,
        target_model: bytes | str | PathLike | None = None,
        max_length: int = DEFAULT_MAX_LENGTH,
        special_tokens: Mapping[str, str] | None = None,
        num_sentinels: int = 0,
    ):
        self._model = read_model(model)
        self._types = read_pieces(self._model)
        if BYTE in self._types.values():
            raise ValueError("SentencePiece models with byte pieces are not supported.")
        self._own_vocabulary = vocabulary is not None
        sentinels = [f"<extra_id_{i}>" for i in range(num_sentinels)]
        if vocabulary is None:
            vocabulary = [*self._types, *sentinels[::-1]]
        self.vocabulary = list(vocabulary)
        self.max_length = max_length
        self.special_tokens = SPECIAL_TOKENS | dict(special_tokens or {})
        self._set_special_ids()
        self.sentinel_ids = [self.vocab_size - 1 - i for i in range(num_sentinels)]
        self.special_ids |= set(self.sentinel_ids)
        between = () if self._own_vocabulary else (self.eos_id,)
        self.template = Template((), between, (self.eos_id,))
        if self._own_vocabulary:
            self._make_string_table()
        else:
            movable = self.vocabulary if is_unigram(self._model) else ()
            self._repeated, self._lengths = repeats(self.vocabulary, frozenset(movable))
        self._make_graphs()
        self.target = self
        if target_model is not None:
            self.target = SentencePieceTokenizer(
                target_model, vocabulary, None, max_length, special_tokens
            )

    @classmethod
    def from_directory(
        cls, directory: str | PathLike, max_length: int | None = None
    ) -> "SentencePieceTokenizer":
        """Read T5's `spiece.model`, or Marian's `source.spm`, `target.spm` and `vocab.json`.

        Raises:
            FileNotFoundError: There is no model.
            ValueError: The files describe another kind of tokenizer.
        """
        settings = read_directory(Path(directory))
        return cls(**settings if max_length is None else settings | {"max_length": max_length})

    def save(self, directory: str | PathLike) -> None:
        """Write the models, the vocabulary and the settings as `transformers` reads them."""
        write_directory(Path(directory), self.get_config())

    def get_config(self) -> dict:
        """The arguments that make an equal tokenizer; models in base64."""
        has_target = self.target is not self
        return {
            "model": base64.b64encode(self._model).decode(),
            "vocabulary": self.vocabulary if self._own_vocabulary else None,
            "target_model": self.target.get_config()["model"] if has_target else None,
            "max_length": self.max_length,
            "special_tokens": self.special_tokens,
            "num_sentinels": len(self.sentinel_ids),
        }

    def for_tflite(self) -> "SentencePieceTokenizer":
        twin = super().for_tflite()
        twin.target = twin if self.target is self else self.target.for_tflite()
        return twin

    def _make_string_table(self) -> None:
        """The vocabulary sorted by hash, so that a graph can look up strings without a resource.

        A hash leads to one token at most, which is then compared with the string.
        """
        hashes = tf.strings.to_hash_bucket_fast(self.vocabulary, HASH_BUCKETS).numpy()
        self._ids_by_hash = np.argsort(hashes).astype(np.int32)
        self._hashes = hashes[self._ids_by_hash]
        self._strings = [self.vocabulary[i].encode() for i in self._ids_by_hash]

    def _ids_of(self, pieces: tf.Tensor) -> tf.Tensor:
        """The ids of pieces in the vocabulary, string `[tokens]` to int32 `[tokens]`."""
        hashes = tf.strings.to_hash_bucket_fast(pieces, HASH_BUCKETS)
        i = tf.searchsorted(tf.constant(self._hashes), hashes)
        i = tf.minimum(i, len(self._hashes) - 1)
        is_known = tf.gather(tf.constant(self._strings), i) == pieces
        return tf.where(is_known, tf.gather(tf.constant(self._ids_by_hash), i), self.unk_id)

    @property
    def tflite_text_in(self) -> tuple[str, ...] | None:
        has_codes = any(re.fullmatch(LANGUAGE_CODE, token) for token in self.vocabulary)
        if (self._own_vocabulary and has_codes) or not is_for_tflite(self._model):
            return None
        return ("AddFastSentencepieceTokenize",)

    def _tokenize_in_tflite(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """By the kernel that there is for TFLite, which cuts a text otherwise in two cases.

        It may take another one of equally good cuts of a Marian text, of whose vocabulary it finds
        only what the model has too.
        """
        ids = tf_text.FastSentencepieceTokenizer(self._model).tokenize(texts)
        if not self._own_vocabulary:
            run = self._runs(ids.flat_values, ids.row_splits)
            return self._in_order(ids.flat_values, run), ids.row_splits
        table = {token: i for i, token in enumerate(self.vocabulary)}
        own_ids = [table.get(piece, self.unk_id) for piece in self._types]
        return tf.gather(tf.constant(own_ids), ids.flat_values), ids.row_splits

    def _tokenize(self, texts: tf.Tensor, with_offsets: bool) -> tuple[tf.Tensor, ...]:
        if self.in_tflite and not with_offsets:
            return self._tokenize_in_tflite(texts)
        if not self._own_vocabulary:
            ids, starts, ends, row_splits = self._cut(texts, tf.int32)
            run = self._runs(ids, row_splits)
            ids = self._in_order(ids, run)
            if not with_offsets:
                return ids, row_splits
            lengths = tf.gather(tf.constant(self._lengths), ids)
            starts, ends = spans_in_runs(texts, starts, ends, row_splits, run, lengths)
            begins_with_space = [token.startswith(SPACE) for token in self.vocabulary]
            has_space = tf.gather(tf.constant(begins_with_space), ids)
            return ids, *without_blanks(texts, starts, ends, row_splits, has_space), row_splits

        has_code = tf.strings.regex_full_match(texts, LANGUAGE_CODE)  # [batch]
        codes = tf.strings.regex_replace(texts, LANGUAGE_CODE, r"\1")
        codes = tf.RaggedTensor.from_row_lengths(
            tf.boolean_mask(codes, has_code), tf.cast(has_code, tf.int64), validate=False
        )
        code_ends = tf.strings.length(codes.flat_values)
        rest = tf.where(has_code, tf.strings.regex_replace(texts, LANGUAGE_CODE, r"\2"), texts)
        pieces, starts, ends, row_splits = self._cut(rest, tf.string)
        tokens = tf.concat([codes, tf.RaggedTensor.from_row_splits(pieces, row_splits)], axis=1)
        ids = self._ids_of(tokens.flat_values)
        if not with_offsets:
            return ids, tokens.row_splits
        has_space = tf.strings.substr(pieces, 0, len(SPACE.encode())) == SPACE.encode()
        spans = without_blanks(rest, starts, ends, row_splits, has_space)
        code_lengths = tf.strings.length(texts) - tf.strings.length(rest)  # [batch]
        shift = tf.repeat(code_lengths, row_splits[1:] - row_splits[:-1])
        starts, ends = (
            tf.concat([first, tf.RaggedTensor.from_row_splits(x + shift, row_splits)], axis=1)
            for x, first in zip(
                spans,
                (codes.with_flat_values(x) for x in (tf.zeros_like(code_ends), code_ends)),
                strict=True,
            )
        )
        return ids, starts.flat_values, ends.flat_values, tokens.row_splits

    def _runs(self, ids: tf.Tensor, row_splits: tf.Tensor) -> tf.Tensor:
        """The number of the run that each token is in, int32 `[tokens]`.

        A run has pieces of one character, repeated; any other token is a run of its own.
        """
        character = tf.gather(tf.constant(self._repeated), ids)
        before = tf.concat([[0], character], axis=0)[:-1]
        splits = tf.expand_dims(tf.cast(row_splits, tf.int32), 1)
        begins_row = tf.scatter_nd(splits, tf.ones_like(splits[:, 0]), [tf.shape(ids)[0] + 1])
        goes_on = (character == before) & (character > 0) & (begins_row[:-1] == 0)
        return tf.cumsum(tf.cast(~goes_on, tf.int32)) - 1

    def _in_order(self, ids: tf.Tensor, run: tf.Tensor) -> tf.Tensor:
        """The tokens with the shorter ones first in each run."""

        def ordered():
            lengths = tf.gather(tf.constant(self._lengths), ids)
            return tf.gather(ids, tf.argsort(run * (max(self._lengths) + 1) + lengths))

        has_runs = tf.reduce_max(run) + 1 < tf.size(ids)
        return tf.cond(has_runs, ordered, lambda: ids)

    def _cut(self, texts: tf.Tensor, dtype: tf.DType) -> tuple[tf.Tensor, ...]:
        """Texts to flat pieces or their ids, starts and ends in bytes (int32), row splits.

        The op holds the model by itself, so no resource needs tracking in a SavedModel.
        """
        values, row_splits, starts, ends = ops.sentencepiece_tokenize_with_offsets_op(
            ops.sentencepiece_op(model=self._model),
            texts,
            nbest_size=0,
            alpha=1.0,
            add_bos=False,
            add_eos=False,
            reverse=False,
            out_type=dtype,
        )
        return values, tf.cast(starts, tf.int32), tf.cast(ends, tf.int32), row_splits

    @functools.cached_property
    def spelling(self) -> Spelling:
        if not self._own_vocabulary:
            return Spelling(
                inside=[token.replace(SPACE, " ").encode() for token in self.vocabulary],
                beginning=[token.replace(SPACE, "").encode() for token in self.vocabulary],
            )
        # Marian: the model writes the parts between special tokens, each without its first space.
        special = set(self.special_tokens.values())
        inside, beginning = [], []
        for token in self.vocabulary:
            if token in special:
                token += " "
            elif self._types.get(token) == CONTROL:
                token = ""
            is_piece = token in self._types
            inside.append(token.replace(SPACE, " ").encode())
            first = token.removeprefix(SPACE) if is_piece else token
            beginning.append(first.replace(SPACE, " ").encode())
        return Spelling(
            inside,
            beginning,
            ends=frozenset(i for i, token in enumerate(self.vocabulary) if token in special),
            silent=frozenset(i for i, piece in enumerate(beginning) if not piece),
            stripped=True,
        )


def read_model(model: bytes | str | PathLike) -> bytes:
    """A model given as bytes, in base64 (as `get_config` writes it) or as a path."""
    if isinstance(model, bytes):
        return model
    if isinstance(model, str) and len(model) > MAX_PATH:
        return base64.b64decode(model)
    return Path(model).read_bytes()


def repeats(vocabulary: Sequence[str], movable: frozenset[str]) -> tuple[list[int], list[int]]:
    """For each token the code point that it repeats, how often, or 0 where it is none such.

    `movable` are the tokens whose order makes no difference to the model.
    """
    lengths = [
        len(token)
        if token in movable and token[0] != SPACE and token == len(token) * token[0]
        else 0
        for token in vocabulary
    ]
    pairs = zip(vocabulary, lengths, strict=True)
    return [ord(token[0]) if length else 0 for token, length in pairs], lengths


def spans_in_runs(
    texts: tf.Tensor,
    starts: tf.Tensor,
    ends: tf.Tensor,
    row_splits: tf.Tensor,
    run: tf.Tensor,
    lengths: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Spans in bytes `[tokens]` of what now stands in another order within each run.

    Args:
        starts, ends: of the tokens in their first order.
        run: as of `_runs`.
        lengths: in characters, of the tokens as they stand now.
    """
    data, text_splits = text_bytes(texts)
    is_start = starts_character(data)
    before = tf.concat([[0], tf.cumsum(tf.cast(is_start, tf.int32))], axis=0)  # [bytes + 1]
    places = tf.cast(tf.where(is_start)[:, 0], tf.int32)
    places = tf.concat([places, text_splits[-1:]], axis=0)  # of characters in all texts
    origin = tf.repeat(text_splits[:-1], row_splits[1:] - row_splits[:-1])  # [tokens]

    def of_run(segment, values):
        return tf.gather(segment(values, run), run)

    count = of_run(tf.math.segment_sum, tf.ones_like(run))
    first = tf.gather(before, origin + of_run(tf.math.segment_min, starts))
    last = tf.gather(before, origin + of_run(tf.math.segment_max, ends))
    passed = tf.cumsum(lengths, exclusive=True)
    passed -= of_run(tf.math.segment_min, passed)
    # A character may have become several: what is past the last one is a part of that.
    start_of_last = tf.maximum(first, last - 1)
    new_starts, new_ends = (
        tf.gather(places, tf.minimum(first + characters, bound)) - origin
        for characters, bound in ((passed, start_of_last), (passed + lengths, last))
    )
    return tf.where(count > 1, new_starts, starts), tf.where(count > 1, new_ends, ends)


def without_blanks(
    texts: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor, row_splits: tf.Tensor, has_space
) -> tuple[tf.Tensor, tf.Tensor]:
    """Spans in bytes `[tokens]` that leave out the blanks before a word.

    `has_space` says for each token whether it begins with a space; "▁" alone becomes empty. A
    token that is a part of what one character became ("…" became "...") spans that character.
    """
    _, text_splits = text_bytes(texts)
    codes, places = tf.strings.unicode_decode_with_offsets(texts, "UTF-8", errors="replace")
    is_blank = tf.reduce_any(
        codes.flat_values[:, None] == tf.constant([ord(x) for x in BLANKS]), axis=1
    )
    origins = tf.gather(text_splits, codes.value_rowids())
    places = tf.cast(places.flat_values, tf.int32) + origins  # of characters in all texts
    visible = tf.concat([tf.boolean_mask(places, ~is_blank), text_splits[-1:]], axis=0)
    places = tf.concat([places, text_splits[-1:]], axis=0)
    origin = tf.repeat(text_splits[:-1], row_splits[1:] - row_splits[:-1])  # [tokens]
    after_blanks = tf.gather(visible, tf.searchsorted(visible, starts + origin)) - origin
    next_end = tf.gather(places, tf.searchsorted(places, starts + origin + 1)) - origin
    return (
        tf.where(has_space, tf.minimum(after_blanks, ends), starts),
        tf.where(~has_space & (starts == ends), next_end, ends),
    )
