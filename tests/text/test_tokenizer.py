"""What all tokenizers share, and finding out which one a directory holds."""

import json

import numpy as np
import pytest
import tensorflow as tf

from lingxi.text import (
    ByteBpeTokenizer,
    SentencePieceTokenizer,
    WordPieceTokenizer,
    from_directory,
)
from lingxi.text.byte_bpe import byte_characters

END = "<|endoftext|>"


@pytest.fixture(scope="module", params=["wordpiece", "bpe", "sentencepiece"])
def tokenizer(request, vocabulary, data_path):
    if request.param == "wordpiece":
        return WordPieceTokenizer(vocabulary, max_length=24)
    if request.param == "bpe":
        return ByteBpeTokenizer([*byte_characters(), "th", "the", END], ["t h", "th e"], 24)
    return SentencePieceTokenizer(
        data_path("vocab/t5/spiece.model"), max_length=24, num_sentinels=5
    )


def test_encode_is_the_call_without_padding(tokenizer):
    texts = ["the cold river", "", "was it good?"]
    rows = tokenizer.encode(texts)
    assert rows == tokenizer(texts, padding=None)["token_ids"].to_list()
    assert tokenizer.encode(texts[0]) == rows[0]
    assert tokenizer.encode(texts, add_special_tokens=False) == tokenizer.tokenize(texts).to_list()


@pytest.mark.parametrize("kind", [list, np.array, tf.constant, tf.ragged.constant])
def test_decode_takes_rows_of_any_kind(tokenizer, kind):
    rows = tokenizer(["the river", "a the film"], max_length=9)["token_ids"].numpy().tolist()
    wanted = [tokenizer.decode(row) for row in rows]
    assert tokenizer.decode(kind(rows)) == wanted
    assert wanted[0].strip() == "the river"


def test_decode_of_nothing_and_of_unknown_ids(tokenizer):
    assert tokenizer.decode([]) in ("", [])
    assert tokenizer.decode([[]]) == [""]
    with pytest.raises(ValueError, match=rf"from 0 to {tokenizer.vocab_size - 1}.* got -1"):
        tokenizer.decode([-1])


@pytest.mark.parametrize("unit", ["characters", "bytes"])
def test_offsets_are_packed_like_the_ids(tokenizer, unit):
    texts, pairs = ["é the river", "the"], ["was 你 it good", ""]
    batch = tokenizer(texts, pairs, max_length=12, padding="max_length", offsets=unit)
    plain = tokenizer(texts, pairs, max_length=12, padding="max_length")
    for name, values in plain.items():
        np.testing.assert_array_equal(batch[name], values)
    assert batch["starts"].shape == batch["ends"].shape == (2, 12)
    special = np.isin(batch["token_ids"], [*sum(tokenizer.template, ()), tokenizer.pad_id])
    assert not batch["starts"].numpy()[special].any() and not batch["ends"].numpy()[special].any()
    ids, starts, ends = tokenizer.tokenize_with_offsets(texts, unit)
    first = len(tokenizer.template.before)
    size = min(int(ids.row_lengths()[0]), 3)
    np.testing.assert_array_equal(batch["starts"][0, first : first + size], starts[0, :size])
    np.testing.assert_array_equal(batch["ends"][0, first : first + size], ends[0, :size])


def test_characters_and_bytes_agree(tokenizer):
    text = "Ünter 你 the 😀 ríver"
    _, starts, ends = (x.to_list()[0] for x in tokenizer.tokenize_with_offsets([text]))
    _, first, last = (x.to_list()[0] for x in tokenizer.tokenize_with_offsets([text], "characters"))
    for a, b, c, d in zip(starts, ends, first, last, strict=True):
        assert text.encode()[a:b].decode() == text[c:d]


def test_errors_of_offsets(tokenizer):
    with pytest.raises(ValueError, match="offsets must be .* got 'words'"):
        tokenizer(["a"], offsets="words")
    with pytest.raises(ValueError, match="unit .* got 'words'"):
        tokenizer.tokenize_with_offsets(["a"], "words")


def test_offsets_in_a_data_set(tokenizer):
    data_set = tf.data.Dataset.from_tensor_slices(["the", "a river", "", "it"]).batch(2)
    data_set = data_set.map(lambda x: tokenizer(x, padding=None, offsets="characters"))
    rows = [row for batch in data_set for row in batch["ends"].to_list()]
    assert (
        rows
        == tokenizer(["the", "a river", "", "it"], padding=None, offsets="characters")[
            "ends"
        ].to_list()
    )


def test_configuration_round_trips_as_json(tokenizer):
    config = json.loads(json.dumps(tokenizer.get_config()))
    again = type(tokenizer)(**config)
    assert again.get_config() == tokenizer.get_config()
    assert again.encode("the river") == tokenizer.encode("the river")


def test_from_directory_finds_the_class(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    loaded = from_directory(tmp_path, max_length=11)
    assert type(loaded) is type(tokenizer)
    assert loaded.max_length == 11


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"config.json": {"model_type": "llama"}},
        {"tokenizer.json": {"model": {"type": "WordLevel"}}},
    ],
)
def test_from_directory_of_no_tokenizer(tmp_path, files):
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(FileNotFoundError, match="no tokenizer that lingxi knows"):
        from_directory(tmp_path)
