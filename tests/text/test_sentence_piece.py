"""SentencePiece: facts that need no reference; tests/parity/test_tokenizers.py has the others."""

import io

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from lingxi.text import SentencePieceTokenizer
from tests.text.tflite import interpreter_of, run


@pytest.fixture(scope="module")
def t5(data_path):
    return SentencePieceTokenizer(data_path("vocab/t5/spiece.model"), num_sentinels=100)


@pytest.fixture(scope="module")
def marian(data_path):
    model = data_path("vocab/sentencepiece/test_model.model")
    pieces = SentencePieceTokenizer(model, special_tokens={"pad": "<s>"}).vocabulary
    words = sorted(set(pieces) - {"<unk>", "</s>", "▁a"})
    return SentencePieceTokenizer(model, ["</s>", "<unk>", ">>fr<<", *words, "漢", "<pad>"], model)


def tokens_of(tokenizer, text):
    return [tokenizer.vocabulary[i] for i in tokenizer.encode(text)]


def test_t5(t5):
    assert t5.vocab_size == 32_100
    assert (t5.pad_id, t5.eos_id, t5.unk_id) == (0, 1, 2)
    assert t5.sentinel_ids[0] == 32_099 and t5.vocabulary[32_099] == "<extra_id_0>"
    assert t5.encode("Hello world") == [8774, 296, 1]
    assert t5.target is t5
    batch = t5(["Hello"], ["world"])
    assert batch["token_ids"].numpy().tolist() == [[8774, 1, 296, 1]]
    assert sorted(batch) == ["padding_mask", "token_ids"]


def test_of_equally_good_cuts_the_shorter_pieces_come_first(t5):
    """As in `transformers`; the offsets follow, whatever the characters were before."""
    assert tokens_of(t5, "no!!!!!! zz") == ["▁no", "!", "!!!!!", "▁", "zz", "</s>"]
    texts = ["a-------", "------", "!！！!!!", "", "….......", "…………"]
    ids, starts, ends = (x.to_list() for x in t5.tokenize_with_offsets(texts, "characters"))
    assert ids == t5.tokenize(texts).to_list()
    surfaces = [
        [text[a:b] for a, b in zip(*row, strict=True)]
        for text, *row in zip(texts, starts, ends, strict=True)
    ]
    assert surfaces == [
        ["", "a", "-", "---", "---"],
        ["", "---", "---"],
        ["", "!", "！！!!!"],
        [],
        ["", "…", ".", "......"],  # the first is three dots to the model
        ["", "…………", "…"],
    ]


def test_special_tokens_in_a_text_are_text(t5):
    ids = t5.encode("</s> <extra_id_0>", add_special_tokens=False)
    assert not set(ids) & {t5.eos_id, *t5.sentinel_ids}


def test_decoding(t5):
    ids = [*t5.encode("Hello, world"), t5.sentinel_ids[3], t5.pad_id]
    assert t5.decode(ids) == "Hello, world"
    assert t5.decode([ids], skip_special_tokens=False) == ["Hello, world</s><extra_id_3><pad>"]


@pytest.mark.parametrize(
    ("text", "surfaces"),
    [
        ("Hello  world", ["Hello", "world"]),
        ("\u3000Hello\t\u200b world ", ["Hello", "world"]),
        ("naïve ﬁne", ["naïve", "ﬁne"]),
        ("１２", ["１２"]),
        ("a 猫!", ["", "a", "", "猫", "!"]),
    ],
)
@pytest.mark.parametrize("unit", ["characters", "bytes"])
def test_offsets_point_into_the_original(t5, text, surfaces, unit):
    _, starts, ends = (x.to_list()[0] for x in t5.tokenize_with_offsets([text], unit))
    whole = text if unit == "characters" else text.encode()
    found = [whole[a:b] for a, b in zip(starts, ends, strict=True)]
    found = found if unit == "characters" else [x.decode() for x in found]
    if len(found) == len(surfaces):
        assert found == surfaces
    else:  # a word of several pieces
        assert "".join(found) == "".join(surfaces)


def test_pieces_of_one_character_span_it(t5):
    _, starts, ends = (x.to_list()[0] for x in t5.tokenize_with_offsets(["a…!"], "characters"))
    assert (1, 2) in zip(starts, ends, strict=True)
    assert all(a <= b for a, b in zip(starts, ends, strict=True))


@given(texts=st.lists(st.text() | st.text(" ab\u3000ﬁ…가é\u0301") | st.text(".…!！-"), max_size=5))
def test_offsets_are_ordered(t5, texts):
    ids, starts, ends = (x.to_list() for x in t5.tokenize_with_offsets(texts, "bytes"))
    assert ids == t5.tokenize(texts).to_list()
    for text, row_starts, row_ends in zip(texts, starts, ends, strict=True):
        assert row_starts == sorted(row_starts) and row_ends == sorted(row_ends)
        for start, end in zip(row_starts, row_ends, strict=True):
            assert 0 <= start <= end <= len(text.encode())
            text.encode()[start:end].decode()


def test_marian_takes_its_ids_from_the_vocabulary(marian):
    assert tokens_of(marian, "the") == ["▁the", "</s>"]
    assert tokens_of(marian, "a the") == ["<unk>", "▁the", "</s>"]  # not in the vocabulary
    assert "漢" in tokens_of(marian, "漢")  # in the vocabulary, not in the model
    assert marian.pad_id == marian.vocab_size - 1
    assert marian.target.vocabulary == marian.vocabulary
    assert marian.target.target is marian.target


def test_language_codes(marian):
    assert tokens_of(marian, ">>fr<< the") == [">>fr<<", "▁the", "</s>"]
    assert tokens_of(marian, ">>xx<<the") == ["<unk>", "▁the", "</s>"]
    batch = marian(["the", ">>fr<< the"], offsets="characters")
    assert batch["starts"].numpy().tolist() == [[0, 0, 0], [0, 7, 0]]
    assert batch["ends"].numpy().tolist() == [[3, 0, 0], [6, 10, 0]]


def test_round_trip_on_disk(t5, marian, tmp_path):
    for tokenizer in (t5, marian):
        directory = tmp_path / str(tokenizer.vocab_size)
        tokenizer.save(directory)
        loaded = SentencePieceTokenizer.from_directory(directory)
        assert loaded.get_config() == tokenizer.get_config()
        assert SentencePieceTokenizer(**tokenizer.get_config()).encode("a b") == loaded.encode(
            "a b"
        )


@pytest.mark.parametrize("name", ["t5", "marian"])
def test_in_a_saved_model(name, request, tmp_path):
    """The graph holds the model itself: nothing has to be tracked."""
    tokenizer = request.getfixturevalue(name)
    module = tf.Module()
    module.serve = tf.function(
        lambda texts: tokenizer(texts, offsets="bytes"),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    tf.saved_model.save(module, str(tmp_path))
    texts = tf.constant(["the cat", "", ">>fr<< the"])
    served = tf.saved_model.load(str(tmp_path)).serve(texts)
    for key, values in tokenizer(texts, offsets="bytes").items():
        assert served[key].numpy().tolist() == values.numpy().tolist(), key


def test_text_into_tflite(t5):
    texts = ["the cat", "", "</s> naïve\u3000１２ \t漢字 😀", "a" * 80]

    def function(texts):
        return t5.for_tflite()(texts, max_length=16, padding="max_length")["token_ids"]

    signature = [tf.TensorSpec([None], tf.string)]
    interpreter, ops = interpreter_of(function, signature, t5.tflite_text_in)
    assert {op for op in ops if not op.isupper()} == {"TFText>FastSentencepieceTokenize"}
    wanted = t5(texts, max_length=16, padding="max_length")["token_ids"]
    np.testing.assert_array_equal(run(interpreter, texts), wanted)


def test_the_kernel_for_tflite_cuts_real_lines_alike(t5, read_lines):
    lines = read_lines("sst2/*dev*", "multi30k/val*", "wnut17/*dev*", "waimai/dev*")
    assert t5.for_tflite().encode(lines) == t5.encode(lines)


def test_the_kernel_for_tflite_takes_the_ids_of_a_vocabulary(t5):
    marian = SentencePieceTokenizer(t5._model, ["<pad>", "</s>", "<unk>", "▁the", "s", "▁cat"])
    for tokenizer in (marian, marian.for_tflite()):
        assert tokens_of(tokenizer, "the cat.") == ["▁the", "▁cat", "<unk>", "</s>"]
    assert marian.tflite_text_in == t5.tflite_text_in
    assert marian.for_tflite().target.get_config() == marian.get_config()


def test_models_that_the_kernel_for_tflite_would_cut_otherwise(t5, marian):
    assert marian.tflite_text_in is None  # normalizes otherwise, and has language codes
    codes = SentencePieceTokenizer(t5._model, ["<pad>", "</s>", "<unk>", ">>fr<<"])
    assert codes.tflite_text_in is None
    sentencepiece = pytest.importorskip("sentencepiece", reason="needs the extra `tokenizers`")
    for options in (
        {},
        {"model_type": "bpe"},
        {"add_dummy_prefix": False},
        {"treat_whitespace_as_suffix": True},
        {"normalization_rule_name": "identity"},
    ):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["the cat sat on the mat"] * 9),
            model_writer=model,
            vocab_size=24,
            hard_vocab_limit=False,
            pad_id=3,
            minloglevel=2,
            **options,
        )
        trained = SentencePieceTokenizer(model.getvalue())
        assert (trained.tflite_text_in is None) == bool(options), options


@pytest.mark.parametrize("model", [b"", b"no model", b"\xff" * 9, b"\x0a\x05ab"])
def test_what_is_no_model(model):
    with pytest.raises(ValueError, match="no SentencePiece model"):
        SentencePieceTokenizer(model)


def test_only_equally_probable_pieces_are_put_in_order():
    """A BPE model merges from the left: to it the order of the pieces does matter."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="needs the extra `tokenizers`")
    texts = ["the cat!!!!!!!", "a!!!!!!!!!!! cat", "!!!", "--------- a ---", "-------"]
    for options in ({"model_type": "bpe"}, {"user_defined_symbols": ["---", "--"]}):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["the cat!!!! sat on the mat!! a - cat -- a ----"] * 9),
            model_writer=model,
            vocab_size=40,
            hard_vocab_limit=False,
            pad_id=3,
            minloglevel=2,
            **options,
        )
        processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        ours = SentencePieceTokenizer(model.getvalue())
        assert ours.encode(texts, add_special_tokens=False) == processor.encode(texts), options
