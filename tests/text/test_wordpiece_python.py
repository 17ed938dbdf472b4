"""WordPiece in plain Python: the ids of the one in TensorFlow, on any text."""

import functools
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingxi.text import WordPieceTokenizer, bert_normalizer
from lingxi.text.wordpiece_python import PythonWordPiece
from tests.text.test_wordpiece import CODE_POINTS, HARD_TEXT, VOCABULARY

SETTINGS = [(True, None), (False, None), (True, False), (False, True)]  # lowercase, strip_accents


def twins(vocabulary, lowercase=True, strip_accents=None, max_length=512):
    """The tokenizer in TensorFlow, and that in plain Python."""
    arguments = {"lowercase": lowercase, "strip_accents": strip_accents, "max_length": max_length}
    return tuple(kind(vocabulary, **arguments) for kind in (WordPieceTokenizer, PythonWordPiece))


def assert_equal_ids(reference, tokenizer, texts):
    for text, wanted in zip(texts, reference.tokenize(texts).to_list(), strict=True):
        assert tokenizer.tokenize(text) == wanted, ascii(text)


@pytest.fixture(scope="module")
def english(data):
    return twins(WordPieceTokenizer(data / "vocab/bert_base_uncased/vocab.txt").vocabulary)


@pytest.fixture(scope="module")
def chinese(data):
    """A function: both tokenizers of BERT base Chinese, which knows cased English too."""
    vocabulary = WordPieceTokenizer(data / "vocab/bert_base_chinese/vocab.txt").vocabulary
    return lambda *settings: twins(vocabulary, *settings)


@pytest.mark.parametrize("globs", [("sst2/*", "wnut17/dev*"), ("multi30k/val*", "waimai/dev*")])
def test_ids_on_real_lines(globs, english, read_lines):
    assert_equal_ids(*english, read_lines(*globs))


def test_ids_on_real_lines_of_chinese(chinese, read_lines):
    assert_equal_ids(*chinese(), read_lines("waimai/dev*", "cmrc2018/dev.json", "uner_zh/dev*"))


@pytest.mark.parametrize(("lowercase", "strip_accents"), SETTINGS)
def test_ids_of_code_points_that_matter(chinese, lowercase, strip_accents):
    """Each character that any table mentions, some of the rest, and the edges of all ranges."""
    table = bert_normalizer.characters()
    codes = set(CODE_POINTS[::199]) | set(range(0x250)) | set(range(0x2000, 0x2100))
    codes |= (
        bert_normalizer.mapping("stripped").keys() | bert_normalizer.mapping("lowercase").keys()
    )
    for name in ("space", "split", "joined"):
        codes |= set(bert_normalizer.code_points(table[name]))
    for name in ("removed", "alone"):
        for item in table[name].split():
            first, _, last = item.partition("-")
            edges = int(first, 16), int(last or first, 16)
            codes |= {code + step for code in edges for step in (-1, 0, 1) if code + step >= 0}
    codes -= set(range(0xD800, 0xE000)) | {0x110000}
    reference, tokenizer = chinese(lowercase, strip_accents)
    assert_equal_ids(reference, tokenizer, [f"a{chr(code)}b" for code in sorted(codes)])


@pytest.mark.slow
@pytest.mark.parametrize("context", ["{}", "a{}b"])
def test_ids_of_every_code_point(chinese, context):
    assert_equal_ids(*chinese(), [context.format(chr(code)) for code in CODE_POINTS])


@functools.cache
def tiny(setting=SETTINGS[0]):
    return twins(VOCABULARY, *setting, max_length=16)


@settings(max_examples=200)
@given(HARD_TEXT, HARD_TEXT, st.sampled_from(SETTINGS), st.integers(3, 16), st.booleans())
def test_inputs_of_any_texts_and_pairs(text, pair, setting, max_length, pad):
    reference, tokenizer = tiny(setting)
    padding = "max_length" if pad else "longest"
    for pairs in (None, [pair, text]):
        found = tokenizer([text, pair], pairs, max_length, padding)
        wanted = reference([text, pair], pairs, max_length, padding)
        assert list(found) == list(wanted)
        for name in wanted:
            assert found[name].dtype == wanted[name].numpy().dtype
            np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


@pytest.mark.parametrize("lengths", [(9, 3), (3, 9), (9, 9), (5, 6), (0, 20), (20, 0), (7, 8)])
def test_the_longest_of_two_texts_gives_way(lengths):
    reference, tokenizer = tiny()
    first, second = ([" ".join("a" * length)] for length in lengths)
    for max_length in range(3, 17):
        np.testing.assert_array_equal(
            tokenizer(first, second, max_length)["segment_ids"],
            reference(first, second, max_length)["segment_ids"],
        )


def test_words_of_many_characters_are_unknown():
    reference, tokenizer = tiny()
    texts = [letter * count for letter in "aяあ𐐨" for count in (99, 100, 101, 500)]
    assert_equal_ids(reference, tokenizer, texts)


def test_bytes_are_texts_too():
    _, tokenizer = tiny()
    assert tokenizer.tokenize("a 你!".encode()) == tokenizer.tokenize("a 你!")
    assert tokenizer.tokenize(b"a\xff \xe4\xbd a") == tokenizer.tokenize("a a")


def test_no_texts():
    _, tokenizer = tiny()
    inputs = tokenizer([], padding="max_length")
    assert [inputs[name].shape for name in inputs] == 3 * [(0, 16)]


def test_reads_what_is_saved_also_inside_of_an_archive(tmp_path):
    special = {"pad": "<pad>", "cls": "<s>"}
    vocabulary = ["<pad>", "[UNK]", "<s>", "[SEP]", "[MASK]", "É", "e"]
    saved = WordPieceTokenizer(vocabulary, lowercase=False, max_length=7, special_tokens=special)
    saved.save(tmp_path / "folder")
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        for file in (tmp_path / "folder").iterdir():
            archive.write(file, file.name)
    for place in (str(tmp_path / "folder"), zipfile.Path(tmp_path / "archive.zip")):
        tokenizer = PythonWordPiece.from_directory(place)
        found = tokenizer(["É e <pad>"], padding="max_length")["token_ids"]
        np.testing.assert_array_equal(
            found, saved(["É e <pad>"], padding="max_length")["token_ids"]
        )
        assert found[0, 1] == vocabulary.index("É")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_length": 1}, r"from 2 .* to 16 .*got 1\."),
        ({"max_length": 17}, r"from 2 .* to 16 .*got 17\."),
        ({"pairs": ["a"], "max_length": 2}, r"from 3 .* to 16 .*got 2\."),
        ({"pairs": ["a", "b"]}, "got 1 texts and 2 pairs"),
        ({"padding": None}, 'must be "longest" or "max_length", got None'),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    _, tokenizer = tiny()
    with pytest.raises(ValueError, match=message):
        tokenizer(["a"], **arguments)
