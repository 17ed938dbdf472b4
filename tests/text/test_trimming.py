"""`lingxi.text.trimming`: fewer tokens, the same cuts."""

import json

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from lingxi.text import ByteBpeTokenizer, SentencePieceTokenizer, WordPieceTokenizer
from lingxi.text.byte_bpe import byte_characters
from lingxi.text.trimming import trimmed
from lingxi.text.wordpiece_python import PythonWordPiece

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def same_cuts(before, after, old_ids, texts):
    """Both tokenizers cut `texts` into the same tokens."""
    expected, found = before.tokenize(texts), after.tokenize(texts)
    assert found.row_lengths().numpy().tolist() == expected.row_lengths().numpy().tolist()
    np.testing.assert_array_equal(old_ids[found.flat_values.numpy()], expected.flat_values)


@pytest.fixture(scope="module")
def reviews(data_path):
    """Lines of real film reviews."""
    lines = data_path("sst2/train.tsv").read_text("utf-8").strip().split("\n")
    return [line.rsplit("\t", 1)[0] for line in lines[:1500]]


@pytest.fixture(scope="module")
def bert(data_path, reviews):
    """BERT's tokenizer, what is left of it, and the ids of that."""
    before = WordPieceTokenizer(data_path("vocab/bert_base_uncased/vocab.txt"))
    return before, *trimmed(before, reviews)


def test_real_reviews_are_cut_as_before(bert, reviews):
    before, after, old_ids = bert
    assert after.vocab_size == len(old_ids) < before.vocab_size / 2
    assert [before.vocabulary[i] for i in old_ids] == after.vocabulary
    same_cuts(before, after, old_ids, reviews)


def test_any_text_of_kept_tokens_alone_is_cut_as_before(bert):
    """Whatever is written with the kept tokens, wherever words begin and end."""
    before, after, old_ids = bert
    python = PythonWordPiece(**before.get_config())
    kept, pieces = set(old_ids.tolist()), [token.removeprefix("##") for token in after.vocabulary]
    count = 0

    @hypothesis.settings(max_examples=100)
    @hypothesis.given(
        st.lists(st.tuples(st.sampled_from(pieces), st.sampled_from(["", " ", "-"])), max_size=40)
    )
    def check(parts):
        nonlocal count
        words = python.words("".join(piece + joint for piece, joint in parts))
        needed = [word for word in words if kept.issuperset(python.longest_pieces(word)[0])]
        if needed:
            count += len(needed)
            same_cuts(before, after, old_ids, [" ".join(needed)])

    check()
    assert count > 100


def test_an_unknown_word_stays_unknown():
    """Its first pieces are kept: without `hello`, `hel` and `##lo€` would make it known."""
    before = WordPieceTokenizer([*SPECIAL, "hel", "##lo€", "hello", "film", "##l", "##o"])
    after, old_ids = trimmed(before, ["hello€ hel"])
    assert after.vocabulary == [*SPECIAL, "hel", "hello", "##l", "##o"]
    same_cuts(before, after, old_ids, ["hello€ hel"])
    assert after.encode("hello€", add_special_tokens=False) == [after.unk_id]


def test_other_texts_are_cut_into_characters(vocabulary):
    before = WordPieceTokenizer(vocabulary, max_length=16)
    after, _ = trimmed(before, ["a lovely film"], keep=["story"])
    assert after.decode(after.encode("the story")) == "the story"
    assert [after.vocabulary[i] for i in after.encode("the story", False)] == [
        "t",
        "##h",
        "##e",
        "story",
    ]
    assert after.max_length == 16


@pytest.fixture(scope="module")
def merged():
    """A BPE whose token `abc` two merges make."""
    merges = ["a b", "b c", "ab c", "a bc", "x y", "Ġ abc"]
    made = ["".join(merge.split()) for merge in merges]
    vocabulary = list(dict.fromkeys(["<|endoftext|>", *byte_characters(), *made]))
    return ByteBpeTokenizer(vocabulary, merges)


def test_merges_that_kept_tokens_need_are_kept(merged):
    after, old_ids = trimmed(merged, ["an abc"])
    assert after.merges == ["a b", "b c", "ab c", "a bc", "Ġ abc"]
    assert after.vocab_size == merged.vocab_size - 1  # xy
    same_cuts(merged, after, old_ids, ["abc abcab bc", "cba é", ""])
    assert after.decode(after.encode("an xy é")) == "an xy é"


def test_real_reviews_are_cut_as_before_by_bpe(data_path, reviews):
    folder = data_path("vocab/gpt2")
    ids = json.loads((folder / "encoder.json").read_text("utf-8"))
    rows = (folder / "vocab.bpe").read_text("utf-8").split("\n")
    before = ByteBpeTokenizer(sorted(ids, key=ids.get), [row for row in rows[1:] if row])
    after, old_ids = trimmed(before, reviews[:300])
    assert after.vocab_size < before.vocab_size / 4
    same_cuts(before, after, old_ids, reviews[:300])


def test_what_cannot_be_trimmed_is_refused(vocabulary, data_path):
    before = WordPieceTokenizer(vocabulary)
    with pytest.raises(ValueError, match=r"the vocabulary has not: \['##zzz', 'zebra'\]"):
        trimmed(before, ["a"], keep=["zebra", "film", "##zzz"])
    model = data_path("vocab/t5/spiece.model")
    with pytest.raises(ValueError, match=r"SentencePieceTokenizer cannot be trimmed .* WordPiece"):
        trimmed(SentencePieceTokenizer(model), ["a"])
