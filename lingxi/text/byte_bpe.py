"""The byte-level BPE tokenizer of GPT-2 and RoBERTa as TensorFlow graph operations."""

import functools
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import tensorflow as tf

from lingxi.text.byte_bpe_files import (
    DEFAULT_MAX_LENGTH,
    GPT2_TOKENS,
    read_directory,
    write_directory,
)
from lingxi.text.byte_bpe_words import shifted, word_starts
from lingxi.text.offsets import starts_character, text_bytes
from lingxi.text.packing import Template
from lingxi.text.spelling import Spelling
from lingxi.text.static_table import StaticTable
from lingxi.text.tokenizer import Tokenizer

NONE = np.int32(2**31 - 1)  # the rank of a pair that is never merged


def byte_characters() -> list[str]:
    """The printable character by which vocabularies write each byte, from 0 to 255.

    Source: `bytes_to_unicode` of GPT-2: printable Latin-1 stands for itself, the others follow
    from U+0100 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


class ByteBpeTokenizer(Tokenizer):
    """Strings to the token ids of GPT-2 or RoBERTa, in TensorFlow, `tf.data` or a SavedModel.

    The ids equal those of `transformers.GPT2Tokenizer` and `RobertaTokenizer` called with
    `split_special_tokens=True`. Invalid UTF-8 is read as U+FFFD.

    Args:
        vocabulary: The tokens in the order of their ids, bytes written as GPT-2 writes them.
        merges: The merges in the order of their ranks, each "left right"; with none it is a
            tokenizer of bytes.
        max_length: The longest sequence, special tokens included, that a call may return.
        special_tokens: `{"bos": "<|endoftext|>", "eos": …}`. With "cls" and "sep" it is RoBERTa's
            tokenizer: `<s> a </s>` and `<s> a </s></s> b </s>`, else nothing is added. Padding
            is "pad", or "eos" where there is none.
        add_prefix_space: Whether to put a space before a text that starts without one.

    Raises:
        ValueError: The vocabulary lacks a byte, a special token or a token of a merge.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        merges: Sequence[str],
        max_length: int = DEFAULT_MAX_LENGTH,
        special_tokens: Mapping[str, str] | None = None,
        add_prefix_space: bool = False,
    ):
        self.vocabulary = list(vocabulary)
        self.merges = list(merges)
        self.max_length = max_length
        self.special_tokens = dict(special_tokens or GPT2_TOKENS)
        self.add_prefix_space = add_prefix_space
        self._set_special_ids()
        if self.pad_id is None:
            self.pad_id = self.eos_id
        if self.cls_id is not None:
            self.template = Template((self.cls_id,), (self.sep_id,) * 2, (self.sep_id,))
        self._make_tables()
        self._make_graphs()

    @classmethod
    def from_directory(
        cls, directory: str | PathLike, max_length: int | None = None
    ) -> "ByteBpeTokenizer":
        """Read a Hugging Face directory: `vocab.json` and `merges.txt`, or `tokenizer.json`.

        Raises:
            FileNotFoundError: There is no vocabulary.
            ValueError: The files describe another kind of tokenizer.
        """
        settings = read_directory(Path(directory))
        return cls(**settings if max_length is None else settings | {"max_length": max_length})

    def save(self, directory: str | PathLike) -> None:
        """Write the vocabulary, the merges and the settings as `transformers` reads them."""
        write_directory(Path(directory), self.get_config())

    def get_config(self) -> dict:
        """The arguments that make an equal tokenizer."""
        return {
            "vocabulary": self.vocabulary,
            "merges": self.merges,
            "max_length": self.max_length,
            "special_tokens": self.special_tokens,
            "add_prefix_space": self.add_prefix_space,
        }

    def _make_tables(self) -> None:
        """The constants of the graphs, as arrays indexed by byte, by token or by merge."""
        characters = byte_characters()
        ids = {token: i for i, token in enumerate(self.vocabulary)}
        lacking = [f"0x{i:02x}" for i, character in enumerate(characters) if character not in ids]
        if lacking:
            raise ValueError(f"The vocabulary lacks the bytes {lacking}; it must have all 256.")
        self._byte_ids = np.array([ids[character] for character in characters], np.int32)

        to_byte = {character: byte for byte, character in enumerate(characters)}
        self._pieces = [
            bytes(to_byte[x] for x in token) if set(token) <= to_byte.keys() else token.encode()
            for token in self.vocabulary
        ]
        sizes = [(len(x), len(x.lstrip(b" ")), len(x.rstrip(b" "))) for x in self._pieces]
        self._num_bytes, left, right = np.array(sizes, np.int32).T
        self._num_leading, self._num_trailing = self._num_bytes - left, self._num_bytes - right

        merges = {}  # pair of ids -> rank, id of the merged token
        for rank, merge in enumerate(self.merges):
            left, _, right = merge.partition(" ")
            wrong = [token for token in (left, right, left + right) if token not in ids]
            if wrong:
                raise ValueError(f"Merge {rank}, {merge!r}, needs {wrong}, not in the vocabulary.")
            merges[ids[left], ids[right]] = rank, ids[left + right]
        keys = np.array([left * self.vocab_size + right for left, right in merges], np.int64)
        ranks, merged = np.array(list(merges.values()), np.int32).reshape(-1, 2).T
        self._table, self._ranks = StaticTable(keys), ranks
        self._merged = np.zeros(len(self.merges), np.int32)
        self._merged[ranks] = merged

        # A merge whose token takes part in an earlier merge (it has two origins) must be done at
        # one place at a time; any other can be done at all places of a word at once.
        first_use = np.full(self.vocab_size, NONE)
        for (left, right), (rank, _) in merges.items():
            first_use[[left, right]] = np.minimum(first_use[[left, right]], rank)
        self._one_at_a_time = np.arange(len(self.merges)) > first_use[self._merged]

    def _tokenize(self, texts: tf.Tensor, with_offsets: bool) -> tuple[tf.Tensor, ...]:
        if self.add_prefix_space:
            lacks_space = ~tf.strings.regex_full_match(texts, "(?s)( .*)?")
            texts = tf.strings.join([tf.where(lacks_space, " ", ""), texts])
        codes = tf.strings.unicode_decode(texts, "UTF-8", errors="replace")
        characters, rows = codes.flat_values, codes.value_rowids()
        starts = word_starts(characters, rows != shifted(rows, 1, -1))
        words = tf.RaggedTensor.from_row_starts(characters, tf.where(starts)[:, 0], validate=False)
        words, index = tf.unique(tf.strings.unicode_encode(words, "UTF-8"))
        tokens = tf.gather(self._merge(words), index)  # [words, (tokens)]
        num_words = tf.concat([[0], tf.cumsum(tf.cast(starts, tf.int32))], axis=0)
        row_splits = tf.gather(tokens.row_splits, tf.gather(num_words, codes.row_splits))
        ids = tokens.flat_values
        if not with_offsets:
            return ids, row_splits
        token_starts, token_ends = self._spans(texts, ids, row_splits)
        if self.add_prefix_space:
            added = tf.repeat(tf.cast(lacks_space, tf.int32), row_splits[1:] - row_splits[:-1])
            token_starts, token_ends = (
                tf.maximum(x - added, 0) for x in (token_starts, token_ends)
            )
        return ids, token_starts, token_ends, row_splits

    def _merge(self, words: tf.Tensor) -> tf.RaggedTensor:
        """Byte-pair encoding of distinct words, string `[words]`: int32 `[words, (tokens)]`.

        Each round does, in every word that is not finished, the merge of lowest rank.
        """
        data, splits = text_bytes(words)
        symbols = tf.gather(tf.constant(self._byte_ids), tf.cast(data, tf.int32))  # [bytes]
        if not self.merges:
            return tf.RaggedTensor.from_row_splits(symbols, splits, validate=False)
        word = tf.repeat(tf.range(tf.size(words)), splits[1:] - splits[:-1])  # [bytes]
        place = tf.range(tf.size(symbols))

        def unfinished(result, symbols, word, place):
            return tf.size(symbols) > 0

        def merge_once(result, symbols, word, place):
            """`result` is -1 where a symbol was merged away; the others are of unfinished words."""
            rank = self._pair_ranks(symbols, word)
            best = tf.gather(tf.math.segment_min(rank, word), word)  # [symbols]
            can_merge = best < NONE
            merges = can_merge & (rank == best)
            merges &= self._is_done_now(merges, rank, word)
            merged = shifted(merges, 1, False)
            symbols = tf.where(
                merges, tf.gather(tf.constant(self._merged), tf.where(merges, rank, 0)), symbols
            )
            changed = tf.where(merges | merged)
            values = tf.where(merged, -1, symbols)
            result = tf.tensor_scatter_nd_update(
                result, tf.gather_nd(place[:, None], changed), tf.gather_nd(values, changed)
            )
            kept = tf.where(can_merge & ~merged)[:, 0]
            return result, *(tf.gather(x, kept) for x in (symbols, word, place))

        loop = (symbols, symbols, word, place)
        result, *_ = tf.while_loop(
            unfinished, merge_once, loop, shape_invariants=(tf.TensorShape([None]),) * len(loop)
        )
        kept = result >= 0
        return tf.RaggedTensor.from_value_rowids(
            tf.boolean_mask(result, kept),
            tf.boolean_mask(word, kept),
            nrows=tf.size(words),
            validate=False,
        )

    def _pair_ranks(self, symbols: tf.Tensor, word: tf.Tensor) -> tf.Tensor:
        """The rank of each symbol's merge with the next of its word, or NONE: `[symbols]`."""
        wide = tf.cast(symbols, tf.int64)
        keys = wide * self.vocab_size + shifted(wide, -1, 0)
        found, i = self._table.lookup(keys)
        found &= word == shifted(word, -1, -1)
        return tf.where(found, tf.gather(tf.constant(self._ranks), i), NONE)

    def _is_done_now(self, merges: tf.Tensor, rank: tf.Tensor, word: tf.Tensor) -> tf.Tensor:
        """Which of the possible merges of this round do not exclude each other: bool `[symbols]`.

        In a run such as "aaaa" every second one, from the left.
        """
        index = tf.range(tf.size(merges))
        run = tf.cumsum(tf.cast(merges & ~shifted(merges, 1, False), tf.int32))
        done = (index - tf.gather(tf.math.segment_min(index, run), run)) % 2 == 0
        if self._one_at_a_time.any():
            first = tf.math.segment_min(tf.where(merges, index, NONE), word)
            alone = tf.gather(tf.constant(self._one_at_a_time), tf.where(merges, rank, 0))
            done &= ~alone | (index == tf.gather(first, word))
        return done

    def _spans(
        self, texts: tf.Tensor, ids: tf.Tensor, row_splits: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Starts and ends of tokens in bytes `[tokens]`, widened to whole characters."""
        sizes = tf.gather(tf.constant(self._num_bytes), ids)
        data, text_splits = text_bytes(texts)
        ends = tf.minimum(tf.cumsum(sizes), tf.size(data))  # of all texts, one after the other
        starts = tf.minimum(tf.cumsum(sizes, exclusive=True), tf.size(data))
        begins = starts_character(data)
        before = tf.concat([[0], tf.cumsum(tf.cast(begins, tf.int32))], axis=0)  # [bytes + 1]
        places = tf.cast(tf.where(begins)[:, 0], tf.int32)  # of the characters
        places = tf.concat([places, [tf.size(data)]], axis=0)
        starts = tf.gather(places, tf.gather(before, tf.minimum(starts + 1, tf.size(data))) - 1)
        ends = tf.gather(places, tf.gather(before, ends))
        if self.cls_id is not None:
            starts = tf.minimum(starts + tf.gather(tf.constant(self._num_leading), ids), ends)
            ends = tf.maximum(ends - tf.gather(tf.constant(self._num_trailing), ids), starts)
        origin = tf.repeat(text_splits[:-1], row_splits[1:] - row_splits[:-1])  # [tokens]
        return starts - origin, ends - origin

    @functools.cached_property
    def spelling(self) -> Spelling:
        return Spelling(inside=self._pieces, beginning=self._pieces)
