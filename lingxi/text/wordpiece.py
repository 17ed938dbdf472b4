"""BERT's tokenizer as TensorFlow graph operations: the same ids as Hugging Face, for any text."""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text
from tensorflow_text.core.pybinds.pywrap_fast_wordpiece_tokenizer_model_builder import (
    build_fast_wordpiece_model,
)

from lingxi.text.bert_files import (
    DEFAULT_MAX_LENGTH,
    MAX_CHARACTERS_PER_WORD,
    SPECIAL_TOKENS,
    read_directory,
    read_vocabulary,
    write_directory,
)
from lingxi.text.bert_normalizer import normalizer_model, stand_ins
from lingxi.text.packing import Template
from lingxi.text.spelling import Spelling
from lingxi.text.tokenizer import Tokenizer

MAX_BYTES_PER_CHARACTER = 4

# Beginnings of tokens that get no space before them, by the decoder of Hugging Face `tokenizers`.
JOINED_ON_DECODING = (".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re")


class WordPieceTokenizer(Tokenizer):
    """Strings to WordPiece token ids, in TensorFlow, `tf.data`, a SavedModel or a TFLite file.

    The ids equal those of `transformers.BertTokenizer` called with `split_special_tokens=True`:
    a "[SEP]" that somebody typed is text, never a special token.

    Args:
        vocabulary: The tokens in the order of their ids, or the path of a `vocab.txt`.
        lowercase: Whether the vocabulary is lower case ("uncased").
        max_length: The longest sequence, special tokens included, that a call may return.
        strip_accents: Whether to strip accents; None: as `lowercase` says.
        special_tokens: Other names of the special tokens, e.g. `{"pad": "<pad>"}`.

    Raises:
        ValueError: The vocabulary lacks a special token or holds a token twice.
    """

    has_segments = True
    tflite_text_in = ("AddFastBertNormalize", "AddFastWordpieceTokenize")

    def __init__(
        self,
        vocabulary: Sequence[str] | str | PathLike,
        lowercase: bool = True,
        max_length: int = DEFAULT_MAX_LENGTH,
        strip_accents: bool | None = None,
        special_tokens: Mapping[str, str] | None = None,
    ):
        if isinstance(vocabulary, (str, PathLike)):
            vocabulary = read_vocabulary(Path(vocabulary))
        self.vocabulary = list(vocabulary)
        self.lowercase = lowercase
        self.strip_accents = lowercase if strip_accents is None else strip_accents
        self.max_length = max_length
        self.special_tokens = SPECIAL_TOKENS | dict(special_tokens or {})
        repeated = [token for token, n in Counter(self.vocabulary).items() if n > 1]
        if repeated:
            raise ValueError(f"The vocabulary holds these tokens more than once: {repeated}.")
        self._set_special_ids()
        self.template = Template((self.cls_id,), (self.sep_id,), (self.sep_id,))

        # What the graphs hold as constants: two models for the ops, and the shape of each token.
        self._normalizer = np.frombuffer(
            normalizer_model(self.lowercase, self.strip_accents), np.uint8
        )
        self._wordpiece = np.frombuffer(
            build_fast_wordpiece_model(
                [token.translate(stand_ins()) for token in self.vocabulary],
                MAX_CHARACTERS_PER_WORD * MAX_BYTES_PER_CHARACTER,
                "##",
                self.special_tokens["unk"],
                False,  # no_pretokenization
                False,  # support_detokenization
            ),
            np.uint8,
        )
        lengths = [len(token.removeprefix("##")) for token in self.vocabulary]
        signs = [-1 if token.startswith("##") else 1 for token in self.vocabulary]
        self._signed_lengths = np.multiply(
            signs, np.clip(lengths, 1, MAX_CHARACTERS_PER_WORD + 1)
        ).astype(np.int8)  # in characters; negative for a piece that continues a word
        self._make_graphs()

    @classmethod
    def from_directory(
        cls, directory: str | PathLike, max_length: int | None = None
    ) -> "WordPieceTokenizer":
        """Read a Hugging Face directory: `vocab.txt` or `tokenizer.json`, `tokenizer_config.json`.

        Raises:
            FileNotFoundError: There is no vocabulary.
            ValueError: The files describe another tokenizer than BERT's.
        """
        settings = read_directory(Path(directory))
        return cls(**settings if max_length is None else settings | {"max_length": max_length})

    def save(self, directory: str | PathLike) -> None:
        """Write `vocab.txt` and the settings, as `from_directory` and `transformers` read them."""
        settings = {
            "tokenizer_class": "BertTokenizer",
            "model_max_length": self.max_length,
            "do_lower_case": self.lowercase,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": True,
            **{f"{name}_token": token for name, token in self.special_tokens.items()},
        }
        write_directory(Path(directory), self.vocabulary, settings)

    def get_config(self) -> dict:
        """The arguments that make an equal tokenizer."""
        return {
            "vocabulary": self.vocabulary,
            "lowercase": self.lowercase,
            "max_length": self.max_length,
            "strip_accents": self.strip_accents,
            "special_tokens": self.special_tokens,
        }

    @functools.cached_property
    def spelling(self) -> Spelling:
        inside = [
            token.removeprefix("##")
            if token.startswith(("##", *JOINED_ON_DECODING))
            else f" {token}"
            for token in self.vocabulary
        ]
        return Spelling(
            inside=[token.encode() for token in inside],
            beginning=[token.encode() for token in self.vocabulary],
        )

    def _tokenize(self, texts: tf.Tensor, with_offsets: bool) -> tuple[tf.Tensor, ...]:
        """string `[batch]` to flat ids `[tokens]` (and starts, ends) and row splits `[batch+1]`."""
        normalizer = tf_text.FastBertNormalizer(model_buffer=tf.constant(self._normalizer))
        splitter = tf_text.FastWordpieceTokenizer(
            model_buffer=tf.constant(self._wordpiece), token_out_type=tf.int32
        )
        if with_offsets:
            normalized, origins = normalizer.normalize_with_offsets(texts)
        else:
            normalized = normalizer.normalize(texts)
        pieces = splitter.tokenize_with_offsets(normalized)
        ids, starts, ends, row_splits = self._limit_words(*pieces)
        if not with_offsets:
            return ids, row_splits
        return ids, *original_spans(origins, starts, ends, row_splits), row_splits

    def _limit_words(
        self, ids: tf.RaggedTensor, starts: tf.RaggedTensor, ends: tf.RaggedTensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Make each word of more than 100 characters one unknown token, as BERT does.

        The op by itself counts bytes. Takes what it returned, gives flat ids, starts and ends
        `[tokens]` and row splits `[batch+1]`.
        """
        row_splits = ids.row_splits
        ids, starts, ends = (tf.cast(x.flat_values, tf.int32) for x in (ids, starts, ends))
        signed_lengths = tf.cast(tf.gather(tf.constant(self._signed_lengths), ids), tf.int32)
        is_first = signed_lengths > 0  # [tokens]
        word = tf.cumsum(tf.cast(is_first, tf.int32)) - 1  # [tokens], the word each belongs to
        is_long = (
            tf.math.segment_sum(tf.abs(signed_lengths), word) > MAX_CHARACTERS_PER_WORD
        )  # [words]
        is_long = tf.gather(is_long, word)  # [tokens]
        num_bytes = tf.gather(tf.math.segment_sum(ends - starts, word), word)  # [tokens]

        kept = tf.logical_or(is_first, tf.logical_not(is_long))
        kept_before = tf.concat([[0], tf.cumsum(tf.cast(kept, tf.int32))], axis=0)
        return (
            tf.boolean_mask(tf.where(is_long, self.unk_id, ids), kept),
            tf.boolean_mask(starts, kept),
            tf.boolean_mask(tf.where(is_long, starts + num_bytes, ends), kept),
            tf.gather(kept_before, row_splits),
        )


def original_spans(
    origins: tf.RaggedTensor, starts: tf.Tensor, ends: tf.Tensor, row_splits: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Spans `[tokens]` in the bytes of the normalized texts to spans in the original bytes.

    `origins` `[batch, (bytes + 1)]` says for each normalized byte where its character started.
    A token ends where the character after that of its last byte starts: several bytes, even
    several tokens (the jamo of a Hangul syllable), may come from one character.
    """
    positions = tf.cast(origins.flat_values, tf.int32)
    row_starts = tf.repeat(origins.row_starts(), row_splits[1:] - row_splits[:-1])  # [tokens]
    row_starts = tf.cast(row_starts, tf.int32)
    is_new = tf.concat([[False], positions[1:] != positions[:-1]], axis=0)
    character = tf.cumsum(tf.cast(is_new, tf.int32))  # of each byte
    character_start = tf.concat([positions[:1], tf.boolean_mask(positions, is_new)], axis=0)
    last = tf.gather(character, row_starts + ends - 1)
    return tf.gather(positions, row_starts + starts), tf.gather(character_start, last + 1)
