"""The normalizer's model, and the table of characters behind it."""

import importlib.util
import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text as tf_text
from hypothesis import given, settings
from hypothesis import strategies as st

from lingxi.text import bert_normalizer
from tests.text.conftest import ROOT


def look_up(units: np.ndarray, key: bytes) -> int:
    """What the op finds in the trie: 0 for an absent key."""
    index = 0
    for byte in key:
        index ^= int(units[index]) >> 10
        index ^= byte
        if units[index] & 0x800000FF != byte:
            return 0
    if not units[index] & 0x100:
        return 0
    return int(units[index ^ int(units[index]) >> 10]) & 0x7FFFFFFF


@settings(deadline=None, max_examples=20)
@given(
    st.dictionaries(st.characters(codec="utf-8", min_codepoint=1), st.integers(1, 2**31 - 1)),
    st.integers(0, 0x10000),
)
def test_double_array_finds_every_value_and_nothing_else(entries, start):
    values = np.zeros(bert_normalizer.CODE_POINTS, np.uint32)
    values[0xF0000 + start : 0x100000] = 7  # a long run, whose sub-tries are shared
    for character, value in entries.items():
        values[ord(character)] = value
    units = bert_normalizer.double_array(values)
    neighbours = {min(max(ord(c) + d, 1), 0x10FFFF) for c in entries for d in (-64, -1, 0, 1, 64)}
    for code in neighbours | {0xEFFFF + start, 0xF0000 + start, 0xFFFFF, 0x100000}:
        if not 0xD800 <= code < 0xE000:
            assert look_up(units, chr(code).encode()) == values[code], hex(code)


@pytest.mark.parametrize(
    ("lowercase", "strip_accents", "expected"),
    [
        (True, True, "ecole  x \u1112\u1161\u11ab"),
        (True, False, "école  x 한"),
        (False, True, "Ecole  X \u1112\u1161\u11ab"),
        (False, False, "École  X 한"),
    ],
)
def test_normalizes(lowercase, strip_accents, expected):
    model = bert_normalizer.normalizer_model(lowercase, strip_accents)
    op = tf_text.FastBertNormalizer(model_buffer=tf.constant(np.frombuffer(model, np.uint8)))
    result = op.normalize(["\0École\t\u3000X\u200b\ue000 한"]).numpy()[0].decode()
    assert result == expected
    assert len(model) < 300_000


@pytest.mark.slow
def test_the_table_is_what_its_generator_writes():
    pytest.importorskip("tokenizers", reason="needs the extra `tokenizers`")
    path = ROOT / "tools" / "bert_characters.py"
    spec = importlib.util.spec_from_file_location("bert_characters", path)
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    assert generator.characters() == bert_normalizer.characters()
    assert json.loads(generator.OUTPUT.read_text(encoding="utf-8")) == generator.characters()
