"""BERT's tokenizer in plain Python: the ids of `WordPieceTokenizer` where there is no TensorFlow.

It reads the same table of characters (see `bert_normalizer.py`), so Python's own Unicode tables,
which differ from version to version, play no part.
"""

import bisect
import functools
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from lingxi.text.bert_files import (
    DEFAULT_MAX_LENGTH,
    MAX_CHARACTERS_PER_WORD,
    SPECIAL_TOKENS,
    read_directory,
)
from lingxi.text.bert_normalizer import HANGUL, characters, jamo, mapping

WORDS_REMEMBERED = 20_000


class PythonWordPiece:
    """Strings to what BERT takes, one text after the other.

    Args:
        vocabulary: The tokens in the order of their ids.
        lowercase, max_length, strip_accents, special_tokens: As of `WordPieceTokenizer`.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        lowercase: bool = True,
        max_length: int = DEFAULT_MAX_LENGTH,
        strip_accents: bool | None = None,
        special_tokens: Mapping[str, str] | None = None,
    ):
        self.max_length = max_length
        self._ids = {token: i for i, token in enumerate(vocabulary)}
        self._longest = max(map(len, vocabulary))
        self._cleaning = Cleaning(lowercase, lowercase if strip_accents is None else strip_accents)
        self._pieces = functools.lru_cache(WORDS_REMEMBERED)(self._split)
        names = SPECIAL_TOKENS | dict(special_tokens or {})
        self.pad_id, self.unk_id, self.cls_id, self.sep_id = (
            self._ids[names[name]] for name in ("pad", "unk", "cls", "sep")
        )

    @classmethod
    def from_directory(cls, directory: str | PathLike) -> "PythonWordPiece":
        """Read the files that `WordPieceTokenizer.from_directory` reads.

        Args:
            directory: Of a tokenizer, also inside of an archive, as a `zipfile.Path`.
        """
        directory = Path(directory) if isinstance(directory, str) else directory
        return cls(**read_directory(directory))

    def tokenize(self, text: str | bytes) -> list[int]:
        """The ids of one text, without special tokens."""
        return [token_id for word in self.words(text) for token_id in self._pieces(word)]

    def words(self, text: str | bytes) -> list[str]:
        """The cleaned words of a text, each of which is cut by itself."""
        if isinstance(text, bytes):
            text = text.decode(errors="replace")  # BERT leaves out what this puts in
        return [word for word in text.translate(self._cleaning).split(" ") if word]

    def __call__(
        self,
        texts: Sequence[str | bytes],
        pairs: Sequence[str | bytes] | None = None,
        max_length: int | None = None,
        padding: str = "longest",
    ) -> dict[str, np.ndarray]:
        """As of `WordPieceTokenizer`, with NumPy arrays.

        Args:
            texts, pairs: str or UTF-8, equally many.
            max_length: Truncate to this length, longest part first; by default `self.max_length`.
            padding: "longest" (pad to the longest row) or "max_length".

        Returns:
            `token_ids` and `segment_ids` int32 and `padding_mask` bool, all `[batch, seq]`.

        Raises:
            ValueError: `max_length`, `padding` or the number of pairs does not fit.
        """
        max_length = self.max_length if max_length is None else max_length
        shortest = 2 if pairs is None else 3
        if not shortest <= max_length <= self.max_length:
            raise ValueError(
                f"max_length must be from {shortest} (the special tokens) to {self.max_length} "
                f"(this tokenizer's max_length), got {max_length}."
            )
        if padding not in ("longest", "max_length"):
            raise ValueError(f'padding must be "longest" or "max_length", got {padding!r}.')
        if pairs is not None and len(texts) != len(pairs):
            raise ValueError(
                "texts and pairs must be equally many, "
                f"got {len(texts)} texts and {len(pairs)} pairs."
            )
        rows = [
            self._packed(text, None if pairs is None else pairs[i], max_length)
            for i, text in enumerate(texts)
        ]
        longest = max((len(ids) for ids, _ in rows), default=shortest)
        shape = len(rows), max_length if padding == "max_length" else longest
        inputs = {
            "token_ids": np.full(shape, self.pad_id, np.int32),
            "segment_ids": np.zeros(shape, np.int32),
            "padding_mask": np.zeros(shape, bool),
        }
        for row, (ids, first_length) in enumerate(rows):
            inputs["token_ids"][row, : len(ids)] = ids
            inputs["segment_ids"][row, first_length : len(ids)] = 1
            inputs["padding_mask"][row, : len(ids)] = True
        return inputs

    def _packed(self, text, pair, max_length: int) -> tuple[list[int], int]:
        """The ids with special tokens, and how many of them are of the first text."""
        first = self.tokenize(text)
        if pair is None:
            ids = [self.cls_id, *first[: max_length - 2], self.sep_id]
            return ids, len(ids)
        second, budget = self.tokenize(pair), max_length - 3
        short = min(len(first), len(second), budget // 2)
        longer = slice(budget - short)  # of two equally long texts, the second
        first, second = (
            (first[longer], second[:short])
            if len(first) > len(second)
            else (first[:short], second[longer])
        )
        ids = [self.cls_id, *first, self.sep_id, *second, self.sep_id]
        return ids, len(first) + 2

    def _split(self, word: str) -> tuple[int, ...]:
        """The ids of a word."""
        ids, is_whole = self.longest_pieces(word)
        return tuple(ids) if is_whole else (self.unk_id,)

    def longest_pieces(self, word: str) -> tuple[list[int], bool]:
        """The ids of the longest pieces that the vocabulary has, from left to right.

        And whether they make the whole word; else it has no piece that fits behind them.
        """
        ids, start = [], 0
        while start < len(word) <= MAX_CHARACTERS_PER_WORD:
            prefix = "##" if start else ""
            for end in range(min(len(word), start + self._longest), start, -1):
                token_id = self._ids.get(prefix + word[start:end])
                if token_id is not None:
                    break
            else:
                return ids, False
            ids.append(token_id)
            start = end
        return ids, start == len(word)


class Cleaning(dict):
    """What BERT makes of a character, with blanks around words of one character: for `translate`.

    Worked out when a character is first seen, since few of all that there are ever come.
    """

    def __init__(self, lowercase: bool, strip_accents: bool):
        super().__init__()
        table = characters()
        self._removed, self._space, self._alone = (
            bounds(table[name]) for name in ("removed", "space", "alone")
        )
        self._lower = mapping("lowercase") if lowercase else {}
        self._stripped = mapping("stripped") if strip_accents else {}
        self._hangul = HANGUL if strip_accents else ()

    def __missing__(self, code: int) -> str:
        self[code] = text = self._cleaned(code)
        return text

    def _cleaned(self, code: int) -> str:
        if is_within(code, self._removed):
            return ""
        if is_within(code, self._space):
            return " "
        text = jamo(code) if code in self._hangul else self._stripped.get(code, chr(code))
        text = text.translate(self._lower)
        return "".join(f" {c} " if is_within(ord(c), self._alone) else c for c in text)


def bounds(ranges: str) -> list[int]:
    """Of ranges such as `"9-a 2028"` in order: where each begins, and after its end."""
    numbers = []
    for item in ranges.split():
        first, _, last = item.partition("-")
        numbers += [int(first, 16), int(last or first, 16) + 1]
    return numbers


def is_within(code: int, numbers: list[int]) -> bool:
    """Whether one of the ranges with these `bounds` holds `code`."""
    return bisect.bisect(numbers, code) % 2 == 1
