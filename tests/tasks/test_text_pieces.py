"""The pieces of a file are its text, and their tokens are those of the whole."""

import functools
import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lingxi.tasks import text_pieces
from lingxi.tasks.masking import lines
from lingxi.tasks.text_pieces import grouped, pieces, whole_lines
from lingxi.text import ByteBpeTokenizer, SentencePieceTokenizer, WordPieceTokenizer
from tests.tasks.roberta import tiny_tokenizer
from tests.tasks.test_masking import write_documents

BLANKS = (
    " ",
    "  ",
    "\n",
    "\n\n",
    "\r\n",
    " \n",
    "\t",
    "\xa0",
    "\u3000",
    "\u200b",
    "\x1c",
    "\ufeff",
)
WORDS = (
    "the",
    "river",
    "'s",
    "'ll",
    "naïve",
    "e\u0301",
    "\u0301",
    "你好",
    "。",
    "👍🏽",
    "...",
    "3",
)
OTHERS = ("½", "ﬁ", "\x00", "\x07", "!!!!!", "xyzzy", "RIVER", "-", "\ufffd", "▁", "##s", "</s>")
PARTS = st.sampled_from([*BLANKS, *WORDS, *OTHERS]) | st.text(max_size=3)
TEXTS = st.lists(PARTS, max_size=40).map("".join)


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """A function: the pieces, of a few characters, of a file with this text, and all of it."""
    path = tmp_path_factory.mktemp("pieces") / "text.txt"

    def cut(text, read=pieces, size=4):
        path.write_bytes(text.encode())
        with pytest.MonkeyPatch.context() as patch:
            for name in ("PIECE", "TOGETHER"):
                patch.setattr(text_pieces, name, size)
            patch.setattr(text_pieces, "BLOCK", 3)
            return list(read(path)), path.read_text("utf-8")

    return cut


@functools.cache
def tokenizer_of(name, data_path, vocabulary):
    if name == "WordPiece":
        return WordPieceTokenizer(vocabulary)
    if name == "RoBERTa":
        return tiny_tokenizer()
    if name == "GPT-2":
        return ByteBpeTokenizer.from_directory(data_path("vocab/gpt2"))
    return SentencePieceTokenizer.from_directory(data_path("vocab/t5"))


@pytest.mark.parametrize("name", ["WordPiece", "RoBERTa", "GPT-2", "T5"])
@settings(max_examples=100)
@given(text=TEXTS)
@example(text="aaaaa\n\n\n\nbbbbb \n\n 'll  's\n xxxxx\n\n\n")
@example(text="aaaaa 's bbb'll ccccc \u0301 e")
def test_the_tokens_of_the_pieces_are_those_of_the_whole(name, text, cut, data_path, vocabulary):
    tokenizer = tokenizer_of(name, data_path, tuple(vocabulary))
    found, whole = cut(text)
    assert "".join(found) == whole
    tokens, *others = tokenizer.tokenize([whole, *found]).to_list()
    assert list(itertools.chain(*others)) == tokens, found


def test_a_file_is_cut_wherever_it_can_be(cut):
    found, _ = cut("the old river is slow\nand long, or\n" * 5)
    assert len(found) > 10
    assert all(piece[0] in " \n" and not piece[1].isspace() for piece in found[1:])
    found, _ = cut("古河很慢而且很长\n" * 5)
    assert len(found) > 3
    assert all(piece.startswith("\n") for piece in found[1:])
    assert cut("一" * 50) == (["一" * 50], "一" * 50)
    assert cut("") == ([""], "")


def test_lines_of_pieces_are_lines_of_documents(cut, tmp_path, monkeypatch):
    texts = write_documents(40)
    path = tmp_path / "text.txt"
    path.write_text("\n \n\n".join(texts) + "\n")
    wanted = list(lines([*texts, "the end"]))
    found, _ = cut(path.read_text(), whole_lines, 100)
    assert len(found) > 20
    monkeypatch.setattr(text_pieces, "TOGETHER", 100)
    monkeypatch.setattr(text_pieces, "BLOCK", 70)
    (tmp_path / "more.txt").write_text("the end")
    assert list(lines([path, tmp_path / "more.txt"])) == wanted


def test_indented_lines_stay_whole(cut):
    text = "".join(f"  item {number} of a list\n \n" for number in range(40))
    found, whole = cut(text, whole_lines, 100)
    assert len(found) > 5 and "".join(found) == whole
    assert all(piece.startswith("  item") and piece.endswith("\n") for piece in found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ok\nna\xefve", "at byte 5, in line 2; convert it"),
        (b"\xe4\xbd\xa0" * 9 + b"\n\xff", "at byte 28, in line 2; convert it"),
        (b"fine\n\xe4\xbd", "unexpected end of data at byte 5, in line 2; convert it"),
    ],
)
def test_what_is_not_utf8_is_named_by_byte_and_line(content, message, tmp_path, monkeypatch):
    monkeypatch.setattr(text_pieces, "BLOCK", 4)
    path = tmp_path / "latin.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"latin.txt is not UTF-8: .*{message}"):
        list(whole_lines(path))


def test_groups_are_long_enough(monkeypatch):
    monkeypatch.setattr(text_pieces, "TOGETHER", 3)
    assert list(grouped(["a", "bb", "c", "dddd", "e"], len)) == [["a", "bb"], ["c", "dddd"], ["e"]]
    assert list(grouped([], len)) == []
