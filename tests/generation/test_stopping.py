"""Stop strings: the table against a search of the whole text."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingxi.generation import stop_table
from lingxi.text import ByteBpeTokenizer

LETTERS = "abé"


def states_of(table, token_ids):
    """The state at the start and after each token."""
    return list(itertools.accumulate(token_ids, lambda i, token: table[i, token], initial=0))


def is_stopped(table, token_ids):
    return states_of(table, token_ids)[-1] == len(table) - 1


@given(
    stop_strings=st.lists(st.text(LETTERS, min_size=1, max_size=5), max_size=4),
    tokens=st.lists(
        st.text(LETTERS, max_size=6).map(str.encode) | st.binary(max_size=2),
        min_size=1,
        max_size=8,
    ),
    choices=st.lists(st.integers(0, 7), max_size=12),
)
def test_ends_as_soon_as_the_bytes_hold_a_stop_string(stop_strings, tokens, choices):
    table = stop_table(stop_strings, tokens)
    assert table.dtype == np.int32 and table.shape[1] == len(tokens)
    token_ids = [choice % len(tokens) for choice in choices]
    for count in range(len(token_ids) + 1):
        text = b"".join(tokens[i] for i in token_ids[:count])
        wanted = any(string.encode() in text for string in stop_strings)
        assert is_stopped(table, token_ids[:count]) == wanted, text


def test_stays_at_the_end():
    table = stop_table(["ab"], [b"a", b"b", b"xabx", b""])
    assert is_stopped(table, [2]) and is_stopped(table, [0, 3, 1])
    np.testing.assert_array_equal(table[-1], len(table) - 1)


def test_has_no_more_states_than_beginnings():
    # start, "a", end: what follows the shorter string is never looked at
    assert len(stop_table(["ab", "abc", "abcdef"], [b"a"])) == 3
    # start, "x", end: "xa" has ended by its suffix "a"
    assert len(stop_table(["xab", "a"], [b"a"])) == 3


def test_without_stop_strings_nothing_ends():
    table = stop_table([], [b"a", b"b"])
    assert len(table) == 2 and not table[0].any()


@pytest.mark.parametrize("stop_strings", [[""], ["a", ""], "ab"])
def test_what_is_no_list_of_stop_strings(stop_strings):
    with pytest.raises(ValueError, match="stop.string"):
        stop_table(stop_strings, [b"a"])


@pytest.fixture(scope="module")
def gpt2(data_path):
    return ByteBpeTokenizer.from_directory(data_path("vocab/gpt2"))


def test_the_vocabulary_of_gpt2(gpt2, data_path):
    stop_strings = ["\n\n", "KING", "my lord", "。", "ceed, hear"]
    start = time.perf_counter()
    table = stop_table(stop_strings, gpt2.token_bytes)
    assert time.perf_counter() - start < 2
    text = data_path("shakespeare/input.txt").read_text(encoding="utf-8")[:20_000]
    stopped = 0
    for row in gpt2.encode([*text.split("\n"), *stop_strings, text]):
        ended = np.flatnonzero(np.equal(states_of(table, row), len(table) - 1))
        count = ended[0] if len(ended) else len(row)  # of tokens until a stop string is complete
        for until, wanted in ((count, bool(len(ended))), (count - 1, False)):
            line = gpt2.decode(row[: max(until, 0)])
            assert any(string in line for string in stop_strings) == wanted, line
        stopped += bool(len(ended))
    assert stopped > len(stop_strings)


def test_equals_the_plain_loop_on_every_token_of_gpt2(gpt2):
    stop_strings = ["the", "ing ", " \n"]
    table = stop_table(stop_strings, gpt2.token_bytes)
    for text in ("", "t", "xin", "th", " "):
        state = states_of(table, gpt2.encode(text))[-1]
        wanted = [
            any(string.encode() in text.encode() + piece for string in stop_strings)
            for piece in gpt2.token_bytes
        ]
        np.testing.assert_array_equal(table[state] == len(table) - 1, wanted)


def test_special_tokens_complete_nothing(gpt2):
    table = stop_table(["<|endoftext|>"], gpt2.token_bytes)
    assert not is_stopped(table, [gpt2.eos_id])
    assert is_stopped(table, gpt2.encode("<|endoftext|>"))
