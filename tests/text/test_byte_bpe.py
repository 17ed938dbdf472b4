"""Byte-level BPE: facts that need no reference; tests/parity/test_tokenizers.py has the others."""

import functools
import itertools
import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from lingxi.text import ByteBpeTokenizer
from lingxi.text.byte_bpe import byte_characters
from lingxi.text.byte_bpe_words import word_starts

MERGES = ["h e", "l l", "he ll", "hell o", "Ġ hello", "a a", "aa aa", "Ã ©", "Ġ Ġ"]
TOKENS = [*byte_characters(), *("".join(merge.split()) for merge in MERGES), "<|endoftext|>"]
ROBERTA = {"bos": "<s>", "eos": "</s>", "cls": "<s>", "sep": "</s>", "pad": "<pad>"}
ROBERTA |= {"unk": "<unk>", "mask": "<mask>"}


@pytest.fixture(scope="module")
def tiny():
    return ByteBpeTokenizer(TOKENS, MERGES, max_length=16)


@pytest.fixture(scope="module")
def roberta():
    tokens = [*TOKENS, "<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    return ByteBpeTokenizer(tokens, MERGES, 16, ROBERTA)


@functools.cache
def byte_tokenizer():
    return ByteBpeTokenizer([*byte_characters(), "<|endoftext|>"], merges=[])


def tokens_of(tokenizer, text):
    return [tokenizer.vocabulary[i] for i in tokenizer.encode(text, add_special_tokens=False)]


def words_of(text):
    codes = tf.constant([ord(x) for x in text], tf.int32)
    starts = word_starts(codes, tf.range(len(text)) == 0).numpy()
    cuts = [*np.flatnonzero(starts), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(cuts)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("it's we'll 've'r", ["it", "'s", " we", "'ll", " '", "ve", "'", "r"]),
        ("''s '' 'd'd", ["''", "s", " ''", " '", "d", "'d"]),
        ("'sat", ["'s", "at"]),
        ("a  b \n\n c  ", ["a", " ", " b", " \n\n", " c", "  "]),
        ("a\n'm", ["a", "\n", "'m"]),
        ("12ab½-+c", ["12", "ab", "½", "-+", "c"]),
        ("\u3000a\u3000\u3000b", ["\u3000", "a", "\u3000", "\u3000", "b"]),
        ("'", ["'"]),
        ("", []),
    ],
)
def test_words(text, words):
    assert words_of(text) == words


def test_merges_by_rank(tiny):
    assert tokens_of(tiny, "hello hello") == ["hello", "Ġhello"]
    assert tokens_of(tiny, "a" * 7) == ["aaaa", "aa", "a"]
    assert tokens_of(tiny, "hell yes") == ["hell", "Ġ", "y", "e", "s"]


@given(texts=st.lists(st.text() | st.text("helo a'é\n"), max_size=5))
def test_decoding_gives_the_text_back(tiny, texts):
    assert tiny.decode(tiny.encode(texts)) == texts


@given(texts=st.lists(st.text() | st.text("helo a'é😀\n"), max_size=5))
def test_offsets_cover_the_text(tiny, texts):
    ids, starts, ends = (x.to_list() for x in tiny.tokenize_with_offsets(texts, "characters"))
    assert ids == tiny.tokenize(texts).to_list()
    _, byte_starts, byte_ends = (x.to_list() for x in tiny.tokenize_with_offsets(texts))
    for i, text in enumerate(texts):
        assert starts[i] == sorted(starts[i]) and ends[i] == sorted(ends[i])
        assert all(a < b for a, b in zip(starts[i], ends[i], strict=True))
        spans = zip(starts[i], ends[i], strict=True)
        assert {x for span in spans for x in range(*span)} == set(range(len(text)))
        for token, span, byte_span in zip(
            ids[i],
            zip(starts[i], ends[i], strict=True),
            zip(byte_starts[i], byte_ends[i], strict=True),
            strict=True,
        ):
            surface = text[slice(*span)]
            assert text.encode()[slice(*byte_span)].decode() == surface
            assert tiny.token_bytes[token] in surface.encode()


def test_pieces_inside_a_character_span_it(tiny):
    _, starts, ends = (x.to_list()[0] for x in tiny.tokenize_with_offsets(["é漢"], "characters"))
    assert list(zip(starts, ends, strict=True)) == [(0, 1), (1, 2), (1, 2), (1, 2)]


def test_offsets_of_roberta_leave_out_spaces(roberta):
    batch = roberta(["hello hello", "a"], offsets="characters")
    spans = list(zip(batch["starts"][0].numpy(), batch["ends"][0].numpy(), strict=True))
    assert spans == [(0, 0), (0, 5), (6, 11), (0, 0)]
    assert batch["ends"][1].numpy().tolist() == [0, 1, 0, 0]


def test_special_tokens(tiny, roberta):
    assert tiny.eos_id == tiny.bos_id == tiny.pad_id == len(TOKENS) - 1
    assert tiny.cls_id is None and tiny.mask_id is None
    a, s, e = roberta.vocabulary.index("a"), roberta.cls_id, roberta.sep_id
    assert tiny.encode("a") == [a]
    assert roberta.encode("a") == [s, a, e]
    assert roberta(["a"], ["a"])["token_ids"].numpy().tolist() == [[s, a, e, e, a, e]]
    assert sorted(roberta(["a"])) == ["padding_mask", "token_ids"]
    assert tokens_of(roberta, "<s>") == ["<", "s", ">"]


def test_a_space_in_front(tiny):
    spaced = ByteBpeTokenizer(TOKENS, MERGES, add_prefix_space=True)
    assert spaced.encode(["hello", " hello", "", "\n"]) == [
        *tiny.encode([" hello", " hello", ""]),
        spaced.encode("\n"),
    ]
    _, starts, ends = (x.to_list() for x in spaced.tokenize_with_offsets(["hello", " hello"]))
    assert (starts, ends) == ([[0], [0]], [[5], [6]])


@given(texts=st.lists(st.text(), max_size=3))
def test_without_merges_it_is_a_tokenizer_of_bytes(texts):
    tokenizer = byte_tokenizer()
    assert tokenizer.vocab_size == 257
    pieces = [[tokenizer.token_bytes[i] for i in row] for row in tokenizer.encode(texts)]
    assert pieces == [[bytes([x]) for x in text.encode()] for text in texts]
    assert tokenizer.tokenize_with_offsets(texts)[1].to_list() == [
        [len(text[:i].encode()) for i, x in enumerate(text) for _ in x.encode()] for text in texts
    ]


def test_a_tokenizer_of_bytes_on_disk(tmp_path):
    byte_tokenizer().save(tmp_path)
    loaded = ByteBpeTokenizer.from_directory(tmp_path)
    assert loaded.get_config() == byte_tokenizer().get_config()
    assert loaded.decode(loaded.encode("it's 漢")) == "it's 漢"


def test_invalid_utf8_is_replaced(tiny):
    texts = tf.constant([b"a\xff", b"hello"])
    assert tiny.tokenize(texts).to_list() == tiny.tokenize(["a\ufffd", "hello"]).to_list()
    for x in tiny.tokenize_with_offsets(texts, "characters"):
        assert x.row_lengths().numpy().tolist() == [4, 1]


@pytest.mark.parametrize(
    ("tokens", "merges", "message"),
    [
        (TOKENS[1:], [], r"lacks the bytes \['0x00'\]"),
        (TOKENS, ["a b"], r"Merge 0, 'a b', needs \['ab'\]"),
        (TOKENS[:-1], MERGES, r"lacks the special tokens \['<\|endoftext\|>'\]"),
    ],
)
def test_errors_of_a_vocabulary(tokens, merges, message):
    with pytest.raises(ValueError, match=message):
        ByteBpeTokenizer(tokens, merges)


def test_round_trip_on_disk(roberta, tmp_path):
    roberta.save(tmp_path)
    assert ByteBpeTokenizer.from_directory(tmp_path).get_config() == roberta.get_config()
    assert ByteBpeTokenizer.from_directory(tmp_path, max_length=9).max_length == 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pre_tokenizer": {"type": "Whitespace"}}, "pre_tokenizer='Whitespace'"),
        ({"normalizer": {"type": "NFC"}}, "normalizer={'type': 'NFC'}"),
        ({"added_tokens": [{"content": "x", "id": 0}]}, r"added tokens.*\['x'\]"),
    ],
)
def test_other_tokenizers(tiny, tmp_path, change, message):
    tiny.save(tmp_path)
    fast = {"model": {"type": "BPE"}, "pre_tokenizer": {"type": "ByteLevel"}} | change
    (tmp_path / "tokenizer.json").write_text(json.dumps(fast))
    with pytest.raises(ValueError, match=message):
        ByteBpeTokenizer.from_directory(tmp_path)
