"""Words of raw texts are those that annotators cut."""

import pytest
import tensorflow as tf

from lingxi.text import ByteBpeTokenizer, WordPieceTokenizer
from lingxi.text.words import token_kinds, word_starts
from tests.tasks.roberta import tokenizer_of

CASES = [
    ("The U.S.-based firm (IBM) paid $5, twice.", "The|U.S.-based|firm|(|IBM|)|paid|$5|,|twice|."),
    ("John's dog isn't Paul's.", "John|'s|dog|isn't|Paul|'s|."),
    ("@user likes #tag !", "@user|likes|#tag|!"),
    ("wait, what?", "wait|,|what|?"),
    ("a b c  d", "a|b|c|d"),
    ("naïve École", "naïve|École"),
    ("", ""),
]


@pytest.fixture(scope="module", params=["bert", "roberta"])
def tokenizer(request, data_path):
    if request.param == "bert":
        return WordPieceTokenizer(data_path("vocab/bert_base_uncased/vocab.txt"), max_length=512)
    gpt2 = ByteBpeTokenizer.from_directory(data_path("vocab/gpt2"))
    return tokenizer_of(gpt2.vocabulary[:-1], gpt2.get_config()["merges"], max_length=512)


def words(tokenizer, texts):
    ids, starts, ends = tokenizer.tokenize_with_offsets(texts, "characters")
    rows = tf.cast(ids.value_rowids(), tf.int32)
    kinds = tf.gather(tf.constant(token_kinds(tokenizer)), ids.flat_values)
    begins = word_starts(kinds, starts.flat_values, ends.flat_values, rows).numpy()
    found = [[] for _ in texts]
    for row, start, end, begin in zip(
        rows.numpy(), starts.flat_values.numpy(), ends.flat_values.numpy(), begins, strict=True
    ):
        if begin:
            found[row].append([start, end])
        else:
            found[row][-1][1] = max(end, found[row][-1][1])
    return [[text[s:e] for s, e in spans] for text, spans in zip(texts, found, strict=True)]


def test_words_end_at_blanks_marks_and_chinese_characters(tokenizer):
    texts, expected = zip(*CASES, strict=True)
    found = words(tokenizer, list(texts))
    # BERT has two tokens for "'s", byte-level BPE one.
    found = ["|".join(filter(str.strip, row)).replace("'|s", "'s") for row in found]
    assert found == list(expected)


def test_chinese_characters_are_words(data_path):
    path = data_path("vocab/bert_base_chinese/vocab.txt")
    (found,) = words(WordPieceTokenizer(path, max_length=512), ["去北京（Beijing）吧。"])
    assert "|".join(found) == "去|北|京|（|Beijing|）|吧|。"


def test_words_do_not_depend_on_the_texts_beside(tokenizer):
    texts = [text for text, _ in CASES]
    assert words(tokenizer, texts) == [words(tokenizer, [text])[0] for text in texts]


def test_every_text_begins_with_a_word(tokenizer, data_path):
    lines = data_path("sst2/dev.tsv").read_text("utf-8").splitlines()[:300]
    ids, starts, ends = tokenizer.tokenize_with_offsets(lines, "characters")
    kinds = tf.gather(tf.constant(token_kinds(tokenizer)), ids.flat_values)
    begins = word_starts(
        kinds, starts.flat_values, ends.flat_values, tf.cast(ids.value_rowids(), tf.int32)
    )
    assert all(row[0] for row in ids.with_flat_values(begins).to_list() if row)
