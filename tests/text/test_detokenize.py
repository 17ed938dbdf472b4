"""From ids back to text, in every place: decode, TensorFlow's graph, TFLite, token by token."""

import functools
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from lingxi.text import (
    ByteBpeTokenizer,
    SentencePieceTokenizer,
    TextStream,
    WordPieceTokenizer,
)
from lingxi.text.byte_bpe import byte_characters
from lingxi.text.wordpiece import JOINED_ON_DECODING
from tests.text.tflite import interpreter_of, run

WORDPIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##able", "你", ",", "'s", "##,"]
MERGES = ["Ã ©", "Ġ a", "ð Ł", "ðŁ ĺ"]  # é, a space and a, most of an emoji
BYTE_TOKENS = [*byte_characters(), *(x.replace(" ", "") for x in MERGES), "<|endoftext|>"]
MARIAN = ["</s>", "<unk>", "<s>", ">>fr<<", "▁", "▁the", "s", "▁▁", "x▁", "\u3000", "漢", "<pad>"]
TEXTS = ["the cold river", "", "it was 漢字 😀 naïve, isn't it?", "unable"]


NAMES = ("wordpiece", "bpe", "t5", "marian")


@pytest.fixture(scope="module")
def make(data_path):
    """A function: the tokenizer of a name."""

    @functools.cache
    def make(name):
        if name == "wordpiece":
            return WordPieceTokenizer(WORDPIECES)
        if name == "bpe":
            return ByteBpeTokenizer(BYTE_TOKENS, MERGES)
        if name == "t5":
            return SentencePieceTokenizer(data_path("vocab/t5/spiece.model"), num_sentinels=9)
        return SentencePieceTokenizer(data_path("vocab/sentencepiece/test_model.model"), MARIAN)

    return make


@pytest.fixture(scope="module", params=NAMES)
def tokenizer(request, make):
    return make(request.param)


def written(tokenizer, ids, skip_special_tokens):
    """The text of ids, by a plain loop over tokens."""
    if skip_special_tokens:
        ids = [i for i in ids if i not in tokenizer.special_ids]
    tokens = [tokenizer.vocabulary[i] for i in ids]
    if isinstance(tokenizer, WordPieceTokenizer):
        text = "".join(tokens[:1])
        for token in tokens[1:]:
            if token.startswith("##"):
                text += token[2:]
            else:
                text += token if token.startswith(JOINED_ON_DECODING) else f" {token}"
        return text
    if isinstance(tokenizer, ByteBpeTokenizer):
        codes = {character: byte for byte, character in enumerate(byte_characters())}
        return bytes(codes[x] for token in tokens for x in token).decode(errors="replace")
    if tokenizer.vocabulary != MARIAN:
        return "".join(tokens[:1]).replace("▁", "") + "".join(tokens[1:]).replace("▁", " ")
    text, part = "", ""
    for token in tokens:
        if token in ("</s>", "<unk>", "<pad>"):
            text, part = f"{text}{part}{token} ", ""
        elif token != "<s>":  # a control token of the model
            of_model = token in ("▁", "▁the", "s")
            part += token.removeprefix("▁") if of_model and not part else token
    return f"{text}{part}".replace("▁", " ").strip()


def streamed(tokenizer, ids, skip_special_tokens=True):
    stream = TextStream(tokenizer, skip_special_tokens)
    return [*(stream.add(i) for i in ids), stream.finish()]


@st.composite
def rows_of_ids(draw, tokenizer):
    """Ids of any tokens, special ones and those that begin with a space more often."""
    special = sorted(tokenizer.special_ids)
    spaced = [i for i, x in enumerate(tokenizer.vocabulary) if x[0] in "▁Ġ"][:9]
    token_id = st.sampled_from(special + spaced) | st.integers(0, tokenizer.vocab_size - 1)
    return draw(st.lists(st.lists(token_id, max_size=9), max_size=4))


@given(data=st.data(), skip=st.booleans())
def test_equals_the_plain_loop(tokenizer, data, skip):
    rows = data.draw(rows_of_ids(tokenizer))
    wanted = [written(tokenizer, row, skip) for row in rows]
    assert tokenizer.decode(rows, skip) == wanted
    ragged = tf.ragged.constant(rows, tf.int32, ragged_rank=1)
    assert texts_of(tokenizer.detokenize(ragged, skip)) == wanted
    if skip:
        padded = ragged.to_tensor(tokenizer.pad_id, shape=[None, 11])
        assert texts_of(tokenizer.detokenize(padded)) == wanted


@given(data=st.data(), skip=st.booleans())
def test_a_stream_shows_each_character_once_it_is_whole(tokenizer, data, skip):
    for row in data.draw(rows_of_ids(tokenizer)):
        pieces = streamed(tokenizer, row, skip)
        assert "".join(pieces) == tokenizer.decode([row], skip)[0]
        whole = b"".join(tokenizer.spelling.inside[i] for i in row)
        if "\ufffd" not in whole.decode(errors="replace"):
            assert "\ufffd" not in "".join(pieces)


def texts_of(strings):
    return [text.decode() for text in strings.numpy().tolist()]


def test_real_text(data_path, read_lines):
    vocab = data_path("vocab")
    lines = read_lines("sst2/*dev*", "tatoeba_zh_en/*dev*", "wnut17/*dev*")[::20]
    for tokenizer in (
        WordPieceTokenizer(vocab / "bert_base_uncased/vocab.txt"),
        ByteBpeTokenizer.from_directory(vocab / "gpt2"),
        SentencePieceTokenizer(vocab / "t5/spiece.model"),
    ):
        rows = tokenizer.encode(lines)
        texts = texts_of(tokenizer.detokenize(tf.ragged.constant(rows, tf.int32, ragged_rank=1)))
        assert texts == [written(tokenizer, row, True) for row in rows]
        assert ["".join(streamed(tokenizer, row)) for row in rows] == texts
        if isinstance(tokenizer, ByteBpeTokenizer):
            assert texts == lines
            assert [b"".join(tokenizer.token_bytes[i] for i in row).decode() for row in rows] == (
                texts
            )


def test_random_bytes_are_read_as_python_reads_them():
    tokenizer = ByteBpeTokenizer([*byte_characters(), "<|endoftext|>"], [])
    edges = [0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBB, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF]
    edges += [0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF8, 0xFE, 0xFF]
    ids = np.array([tokenizer.token_bytes.index(bytes([x])) for x in edges])
    rows = ids[np.random.default_rng(0).integers(len(edges), size=[20_000, 6])]
    assert texts_of(tokenizer.detokenize(rows)) == tokenizer.decode(rows)


@pytest.mark.parametrize("place", ["x{}", "{}x"])
def test_strips_what_python_strips(make, place):
    texts = [place.format(chr(code)) for code in range(1, 0x10000) if not 0xD800 <= code < 0xE000]
    assert texts_of(make("marian").spelling.clean(tf.constant(texts))) == [
        text.strip() for text in texts
    ]


@pytest.mark.parametrize(
    ("name", "added"),
    [
        ("wordpiece", {"[SEP]": "", "un": " un", "##able": "able", "你": " 你", ",": ","}),
        ("bpe", {"<|endoftext|>": "", "Ġa": " a", "Ã©": "é", "Ċ": "\n"}),
        ("t5", {"</s>": "", "<extra_id_0>": "", "▁the": " the", "s": "s", "▁": " "}),
        ("marian", {"</s>": "", "<s>": "", "▁the": " the", "s": "s", "漢": "漢"}),
    ],
)
def test_what_a_token_adds(make, name, added):
    tokenizer = make(name)
    ids = [tokenizer.vocabulary.index(token) for token in added]
    assert [tokenizer.token_bytes[i].decode() for i in ids] == list(added.values())
    assert len(tokenizer.token_bytes) == tokenizer.vocab_size


def test_ids_that_there_are_not(tokenizer):
    for wrong in (-1, tokenizer.vocab_size):
        with pytest.raises(tf.errors.InvalidArgumentError, match="not in"):
            tokenizer.detokenize([[wrong]])
        with pytest.raises(ValueError, match=f"from 0 to {tokenizer.vocab_size - 1}.*{wrong}"):
            TextStream(tokenizer).add(wrong)


def test_no_rows_and_empty_rows(tokenizer):
    assert texts_of(tokenizer.detokenize(np.zeros([0, 3], int))) == []
    assert texts_of(tokenizer.detokenize(np.zeros([2, 0], int))) == ["", ""]
    assert texts_of(tokenizer.detokenize(tokenizer.tokenize([""]))) == [""]
    assert tokenizer.detokenize(tf.zeros([3, 2], tf.int64)).shape == [3]


SERVE = """
import json, sys
import tensorflow as tf, tensorflow_text
for directory, ids in json.loads(sys.argv[1]).items():
    texts = tf.saved_model.load(directory).serve(tf.constant(ids))
    print(json.dumps([text.decode() for text in texts.numpy().tolist()]))
assert "lingxi" not in sys.modules
"""


def test_in_a_saved_model(make, tmp_path):
    """A process without lingxi gives the texts; the graph looks up no resource."""
    inputs, wanted = {}, []
    for name in NAMES:
        tokenizer = make(name)
        module = tf.Module()
        module.serve = tf.function(
            tokenizer.detokenize, input_signature=[tf.TensorSpec([None, None], tf.int32)]
        )
        graph = module.serve.get_concrete_function().graph.as_graph_def()
        assert not [node.op for node in graph.node if "Table" in node.op or "Handle" in node.op]
        directory = str(tmp_path / name)
        tf.saved_model.save(module, directory)
        inputs[directory] = tokenizer(TEXTS)["token_ids"].numpy().tolist()
        wanted.append(tokenizer.decode(inputs[directory]))
    command = [sys.executable, "-c", SERVE, json.dumps(inputs)]
    served = subprocess.run(command, capture_output=True, cwd=tmp_path, check=True).stdout
    assert [json.loads(line) for line in served.splitlines()] == wanted


@pytest.mark.parametrize("batch", [1, None])
def test_text_out_of_tflite(tokenizer, batch):
    in_tflite = tokenizer.for_tflite()
    signature = [tf.TensorSpec([batch, 12], tf.int32)]
    interpreter, ops = interpreter_of(in_tflite.detokenize, signature, in_tflite.tflite_text_out)
    assert {op for op in ops if not op.isupper()} == {"TFText>NgramsStringJoin"}
    ids = tokenizer(TEXTS, max_length=12, padding="max_length")["token_ids"].numpy()
    random = np.random.default_rng(0).integers(tokenizer.vocab_size, size=[50, 12])
    for rows in np.split(np.concatenate([ids, random]).astype(np.int32), 54 if batch else 2):
        texts = [text.decode(errors="replace") for text in run(interpreter, rows).tolist()]
        if tokenizer.spelling.stripped:
            texts = [text.strip() for text in texts]
        assert texts == tokenizer.decode(rows)
    with pytest.raises(RuntimeError, match="out of bounds"):
        run(interpreter, np.full([1, 12], tokenizer.vocab_size, np.int32))


def test_text_out_of_tflite_needs_a_static_length(tokenizer):
    with pytest.raises(ValueError, match="length must be static"):
        tf.function(tokenizer.for_tflite().detokenize).get_concrete_function(
            tf.TensorSpec([1, None], tf.int32)
        )


def test_a_stream_takes_constant_work_for_a_token():
    """A run of blanks that may be the last is not read again with every token."""
    tokenizer = ByteBpeTokenizer([*byte_characters(), "<|endoftext|>"], [])
    ids = tokenizer.encode("漢 " * 50_000)
    assert "".join(streamed(tokenizer, ids)) == "漢 " * 50_000
