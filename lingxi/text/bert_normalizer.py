"""BERT's text cleaning as a model for the tensorflow-text op `FastBertNormalize`.

The op replaces each code point by a string that it looks up in a trie. Its own model follows
`NFKC_CaseFold` and newer Unicode tables, which gives other tokens than BERT's on about 7 % of
real lines; it takes any model, though, and the one built here does what the reference does,
character by character. `bert_characters.json` (written by `tools/bert_characters.py`) says what:

* `removed`, `space`: deleted (controls, private use), or turned into a plain space;
* `stripped`: the canonical decomposition without accents, in force when accents are stripped;
* `lowercase`: the lower case, in force when the tokenizer lowercases;
* `alone`: a word of its own for the reference: punctuation and ideographs;
* `split`: those of them where the word splitting op would not split;
* `joined`: the reverse: the op would split, the reference does not.

Code points are written there as hexadecimal ranges; a map is `{target: ranges of its sources}`.

What a map from single code points cannot do is to put several combining marks into canonical
order, as the reference does when it strips accents. Nonspacing marks are removed, so only the few
marks that stay can be out of order (musical stems, Hangul tones, marks newer than the reference's
tables), and the ids can differ only for a vocabulary that holds two of these.
"""

import functools
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import flatbuffers
import numpy as np

CODE_POINTS = 0x110000
HANGUL = range(0xAC00, 0xD7A4)

# Code points for the `joined` characters. The reference deletes private use, so none is ever left
# over from a text. The vocabulary given to the word splitting op must use the same ones.
STAND_INS = 0x100000

# An entry of the op's table: this flag, then the offset in the string pool, then 6 bits of length.
REPLACED = 0x40000000


@functools.cache
def characters() -> dict:
    """The contents of `bert_characters.json`."""
    path = Path(__file__).with_name("bert_characters.json")
    return json.loads(path.read_text(encoding="utf-8"))


def code_points(ranges: str) -> Iterator[int]:
    """The code points of ranges such as `"9-a 2028"`."""
    for item in ranges.split():
        first, _, last = item.partition("-")
        yield from range(int(first, 16), int(last or first, 16) + 1)


def mapping(name: str) -> dict[int, str]:
    """The map called `stripped` or `lowercase`, from code point to string."""
    table = characters()[name]
    return {code: target for target, ranges in table.items() for code in code_points(ranges)}


@functools.cache
def stand_ins() -> dict[int, int]:
    """`joined` code point -> the private code point that stands for it; for `str.translate`."""
    return {code: STAND_INS + i for i, code in enumerate(code_points(characters()["joined"]))}


def jamo(code: int) -> str:
    """The jamo of a Hangul syllable, by the arithmetic of the Unicode standard, section 3.12."""
    pair, tail = divmod(code - HANGUL.start, 28)
    lead, vowel = divmod(pair, 21)
    syllable = chr(0x1100 + lead) + chr(0x1161 + vowel)
    return syllable + chr(0x11A7 + tail) if tail else syllable


def hangul() -> dict[int, str]:
    """Hangul syllable -> its jamo."""
    return {code: jamo(code) for code in HANGUL}


def replacements(lowercase: bool, strip_accents: bool) -> dict[int, str]:
    """What to replace, as `{code point: string}`; code points that stay are not listed.

    `removed` is left out: its long ranges are filled in at once, by `normalizer_model`.
    """
    lower = mapping("lowercase") if lowercase else {}
    stripped = hangul() | mapping("stripped") if strip_accents else {}
    final = {code: f" {chr(code)} " for code in code_points(characters()["split"])}
    final |= {code: chr(private) for code, private in stand_ins().items()}
    table = {code: chr(code) for code in final.keys() | lower.keys()} | stripped
    table = {code: text.translate(lower).translate(final) for code, text in table.items()}
    return table | dict.fromkeys(code_points(characters()["space"]), " ")


@functools.cache
def normalizer_model(lowercase: bool, strip_accents: bool) -> bytes:
    """The flatbuffer model that makes `tf_text.FastBertNormalizer(model_buffer=…)` clean as BERT.

    Source: `tokenizers.normalizers.BertNormalizer` (clean_text, handle_chinese_chars); ideographs
    and most punctuation need no entry, as the word splitting op knows them by itself.
    """
    values = np.zeros(CODE_POINTS, np.uint32)  # the table's entry of every code point; 0: it stays
    pool, offsets = bytearray(), {}
    for code, text in replacements(lowercase, strip_accents).items():
        encoded = text.encode()
        if encoded not in offsets:
            offsets[encoded] = len(pool)
            pool += encoded
        values[code] = REPLACED | offsets[encoded] << 6 | len(encoded) if encoded else REPLACED
    values[list(code_points(characters()["removed"]))] = REPLACED  # by nothing

    builder = flatbuffers.Builder(1 << 20)
    trie = builder.CreateNumpyVector(double_array(values))
    strings = builder.CreateByteVector(bytes(pool))
    builder.StartObject(4)
    builder.PrependBoolSlot(0, lowercase and strip_accents, False)
    builder.PrependUOffsetTRelativeSlot(1, trie, 0)
    builder.PrependInt32Slot(2, int(values[0]), 0)  # a trie cannot hold NUL
    builder.PrependUOffsetTRelativeSlot(3, strings, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


# Of the UTF-8 forms: the first leading byte, the code points under one, the end of their range.
UTF8_FORMS = ((0x00, 1, 0x80), (0xC0, 64, 0x800), (0xE0, 64**2, 0x10000), (0xF0, 64**3, 5 * 64**3))


def double_array(values: np.ndarray) -> np.ndarray:
    """The darts-clone trie, as uint32 units, that maps the UTF-8 bytes of a code point to a value.

    `values` is uint32 `[0x110000]`; code points of value 0 are not in the trie. A unit holds its
    own label in bits 0-7, whether a value follows in bit 8, and from bit 10 on, xor'ed with the
    unit's index, a `base`: the child of byte b is unit `base ^ b`, the value is unit `base ^ 0`,
    marked by bit 31. Equal sub-tries are stored once, so the planes of private use cost nothing.
    """
    root = 256
    units = [0] * (root + 256)
    blocks: dict[bytes, int] = {}  # the values under one byte -> base of its 64 children
    parents = defaultdict(list)  # value -> the units that it follows

    def attach(unit: int, byte: int, below: np.ndarray) -> None:
        """Make `unit` the one that `byte` leads to, above the code points with values `below`."""
        if len(below) == 1:
            units[unit] = byte | 0x100
            parents[int(below[0])].append(unit)
        else:
            units[unit] = byte | (unit ^ children(below)) << 10

    def children(below: np.ndarray) -> int:
        """The base of the 64 units for the continuation bytes 0x80 … 0xBF."""
        key = below.tobytes()
        if key not in blocks:
            first = len(units)  # a multiple of 64, so that base ^ (0x80 + i) is first + i
            blocks[key] = first ^ 0x80
            units.extend([0] * 64)
            for i, part in enumerate(below.reshape(64, -1)):
                if part.any():
                    attach(first + i, 0x80 + i, part)
        return blocks[key]

    units[0] = root << 10
    left = np.zeros(UTF8_FORMS[-1][2], np.uint32)
    left[1:CODE_POINTS] = values[1:]
    for lead, size, end in UTF8_FORMS:
        for i, part in enumerate(left[:end].reshape(-1, size)):
            if part.any():
                attach(root + lead + i, lead + i, part)
        left[:end] = 0

    units.extend([0] * (len(parents) - units.count(0)))
    gaps = (index for index, unit in enumerate(units) if not unit)
    for (value, followed), leaf in zip(parents.items(), gaps, strict=False):
        units[leaf] = 1 << 31 | value
        for unit in followed:
            units[unit] |= (unit ^ leaf) << 10
    units.extend([0] * (-len(units) % 256))  # whatever the byte, base ^ byte exists
    return np.array(units, np.uint32)
