"""WordPiece: ids equal to the reference on any text, in any place TensorFlow runs."""

import json
import random
import unicodedata

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from lingxi.text import WordPieceTokenizer, bert_normalizer
from tests.text.tflite import interpreter_of, run

LETTERS = {1: "a", 2: "я", 3: "あ", 4: "𐐨"}  # by UTF-8 bytes; all are one token in VOCABULARY
VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "un",
    "##able",
    "你",
    ",",
    "!",
    "\u2028",
]
VOCABULARY += [prefix + letter for prefix in ("", "##") for letter in LETTERS.values()]
# Every character; of those for private use and for later versions of Unicode, all alike, some.
CODE_POINTS = [
    code
    for code in range(0x110000)
    if not 0xD800 <= code < 0xE000
    and (unicodedata.category(chr(code)) not in ("Cn", "Co") or code % 29 == 0 or code < 0x3000)
]


@pytest.fixture(scope="module")
def tiny() -> WordPieceTokenizer:
    return WordPieceTokenizer(VOCABULARY, max_length=16)


def tokens_of(tokenizer, text):
    return [tokenizer.vocabulary[i] for i in tokenizer.tokenize([text]).to_list()[0]]


# The same ids as the reference.

ENGLISH = ("sst2/*", "uci_sentiment/*", "sms_spam/*", "banking77/*", "multi30k/*.en.gz")
CHINESE = ("waimai/*", "tatoeba_zh_en/*", "cmrc2018/dev.json", "uner_zh/dev*", "msra_ner/dev*")


@pytest.mark.parametrize(
    ("name", "globs"),
    [("uncased", ENGLISH), ("chinese", CHINESE), ("cased", ("multi30k/*.de.gz", "wnut17/*"))],
)
def test_ids_on_real_lines(name, globs, read_lines, assert_equal_ids, request):
    assert_equal_ids(request.getfixturevalue(name), read_lines(*globs))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["uncased", "chinese", "cased"])
def test_ids_on_all_real_lines(name, read_lines, assert_equal_ids, request):
    text_files = [f"**/*{s}" for s in (".tsv", ".txt", ".csv", ".json", ".conll", ".iob2", ".gz")]
    assert_equal_ids(request.getfixturevalue(name), read_lines(*text_files, "sms_spam/*"))


def test_ids_of_the_question_set(uncased, data):
    """Ids that were written down once, so this needs no reference installed."""
    folder = data / "vocab/bert_base_uncased"
    questions = json.loads((folder / "question_tokens.json").read_text(encoding="utf-8"))
    wanted = json.loads((folder / "tokenized_questions.json").read_text(encoding="utf-8"))
    assert len(wanted) == 10_570
    assert uncased.tokenize([q["original"] for q in questions]).to_list() == wanted


@pytest.mark.parametrize("name", ["uncased", "cased"])
@pytest.mark.parametrize("context", ["{}", "a{}b"])
def test_ids_of_code_points_that_matter(name, context, assert_equal_ids, request):
    """Each character that any table mentions, and some of the rest."""
    table = bert_normalizer.characters()
    codes = set(CODE_POINTS[::41]) | set(range(0x250)) | set(range(0x2000, 0x2100))
    codes |= (
        bert_normalizer.mapping("stripped").keys() | bert_normalizer.mapping("lowercase").keys()
    )
    for name_of_class in ("space", "split", "joined"):
        codes |= set(bert_normalizer.code_points(table[name_of_class]))
    texts = [context.format(chr(code)) for code in sorted(codes)]
    assert_equal_ids(request.getfixturevalue(name), texts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "context"), [("uncased", "a{}b"), ("cased", "a{}b"), ("chinese", "{}")]
)
def test_ids_of_every_code_point(name, context, assert_equal_ids, request):
    texts = [context.format(chr(code)) for code in CODE_POINTS]
    assert_equal_ids(request.getfixturevalue(name), texts)


def words_of_one_letter():
    letters = st.sampled_from("aéя漢あ가😀\U00010428\u0301\u0e33#.")
    return st.builds(str.__mul__, letters, st.integers(1, 3) | st.integers(97, 103))


ODD_PARTS = [
    "[SEP]",
    "##",
    "[unused1]",
    "don't",
    "\u200d",
    "\u0300",
    "İ",
    "Σς",
    "ǆ",
    "ﬁ",
    "각",
    "\0",
]
HARD_TEXT = st.lists(
    st.one_of(
        st.text(max_size=6),
        st.text(st.characters(max_codepoint=0x24F), max_size=6),
        st.text(st.characters(categories=["Mn", "Mc", "Me", "Lo"]), max_size=4),
        st.text(st.characters(categories=["P", "S", "Cc", "Cf", "Co", "Z"])),
        words_of_one_letter(),
        st.sampled_from([*ODD_PARTS, " ", "a"]),
    ),
    max_size=6,
).map("".join)


@pytest.mark.parametrize("name", ["uncased", "chinese", "cased", "tiny"])
def test_ids_of_hard_texts(name, assert_equal_ids, request):
    tokenizer = request.getfixturevalue(name)

    @settings(deadline=None, max_examples=100)
    @given(st.lists(HARD_TEXT, min_size=1, max_size=8))
    def check(texts):
        assert_equal_ids(tokenizer, texts)

    check()


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip_accents", [True, False])
def test_ids_for_each_setting(lowercase, strip_accents, assert_equal_ids):
    letters = [chr(code) for code in (*range(0x41, 0x250), *range(0x1E00, 0x1F00), 0x1112, 0xD55C)]
    letters = [letter for letter in letters if letter.isalnum()]
    vocabulary = VOCABULARY + sorted({*letters, *("##" + x for x in letters)} - set(VOCABULARY))
    tokenizer = WordPieceTokenizer(vocabulary, lowercase, strip_accents=strip_accents)
    texts = [f"{x}{y}" for x, y in zip(letters, reversed(letters), strict=True)]
    assert_equal_ids(tokenizer, [*texts, "한국 École Ἀθῆναι"])


def test_characters_that_the_op_alone_takes_for_punctuation(assert_equal_ids):
    """They are letters to the reference, also where a vocabulary holds them."""
    codes = [*bert_normalizer.stand_ins()]
    vocabulary = [*VOCABULARY, *(chr(c) for c in codes), *(f"##{chr(c)}" for c in codes[::2])]
    tokenizer = WordPieceTokenizer(vocabulary)
    assert tokens_of(tokenizer, f"a{chr(codes[0])}a") == ["a", f"##{chr(codes[0])}", "##a"]
    texts = [f"{x}{y}a{x}" for x, y in zip(codes, reversed(codes), strict=True)]
    assert_equal_ids(tokenizer, [*texts, *(f"a{chr(c)}a" for c in codes)])


def test_marks_out_of_canonical_order(uncased, assert_equal_ids, reference_of):
    """The one difference: the reference sorts combining marks, a map of code points cannot.

    It shows only where a vocabulary holds two marks that accent stripping leaves, as none does.
    """
    stem, dot = "\U0001d165", "\U0001d16d"  # of musical notes; canonical order is stem, dot
    assert_equal_ids(uncased, [f"a{dot}{stem}a", f"a{stem}{dot}"])
    tokenizer = WordPieceTokenizer([*VOCABULARY, f"##{stem}", f"##{dot}"])
    sorted_ids, typed_ids = tokenizer.tokenize([f"a{stem}{dot}", f"a{dot}{stem}"]).to_list()
    theirs = reference_of(tokenizer)(f"a{dot}{stem}", add_special_tokens=False)["input_ids"]
    assert typed_ids != theirs == sorted_ids


# Facts that need no reference.


@pytest.mark.parametrize("letter", LETTERS.values())
def test_a_word_of_more_than_100_characters_is_unknown(tiny, letter):
    ids, starts, ends = tiny.tokenize_with_offsets([f"a {letter * n}, a" for n in (100, 101)])
    size = len(letter.encode())
    assert ids.row_lengths().numpy().tolist() == [103, 4]
    assert ids[1, 1] == tiny.unk_id
    assert (starts[1, 1], ends[1, 1]) == (2, 2 + 101 * size)
    assert (starts[0, 100], ends[0, 100]) == (2 + 99 * size, 2 + 100 * size)


def test_splits_words_and_pieces(tiny):
    assert tokens_of(tiny, "Unable,你你!") == ["un", "##able", ",", "你", "你", "!"]
    assert tokens_of(tiny, "xyz ÀÁ") == ["[UNK]", "a", "##a"]
    assert tokens_of(tiny, " \t\0\u200b") == []


def test_special_tokens_in_a_text_are_text(uncased):
    assert tokens_of(uncased, "[SEP]") == ["[", "sep", "]"]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Unable, UNABLE!", ["Un", "able", ",", "UN", "ABLE", "!"]),
        ("e\u0301 À\u0300a", ["e\u0301", "À\u0300", "a"]),
        ("你，好", ["你", "，", "好"]),
        ("a\u061da 𫠠 \u166d", ["a\u061da", "𫠠", "\u166d"]),
    ],
)
def test_offsets_point_into_the_original(tiny, text, pieces):
    _, starts, ends = (x.to_list()[0] for x in tiny.tokenize_with_offsets([text]))
    spans = zip(starts, ends, strict=True)
    assert [text.encode()[start:end].decode() for start, end in spans] == pieces


@settings(deadline=None, max_examples=100)
@given(texts=st.lists(HARD_TEXT, min_size=1, max_size=4))
def test_offsets_are_ordered_and_never_cut_a_character(tiny, texts):
    ids, starts, ends = (x.to_list() for x in tiny.tokenize_with_offsets(texts))
    assert ids == tiny.tokenize(texts).to_list()
    for text, row_starts, row_ends in zip(texts, starts, ends, strict=True):
        assert row_starts == sorted(row_starts) and row_ends == sorted(row_ends)
        for start, end in zip(row_starts, row_ends, strict=True):
            assert start < end
            text.encode()[start:end].decode()


def test_offsets_equal_the_reference(uncased, read_lines, reference_of):
    """In characters; on lines without characters that the tokenizer deletes."""
    reference = reference_of(uncased)
    lines = [line for line in read_lines("sst2/dev.tsv", "uner_zh/dev*") if line.isprintable()]
    wanted = reference(
        lines, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
    )["offset_mapping"]
    _, starts, ends = uncased.tokenize_with_offsets(lines)
    for line, row_starts, row_ends, spans in zip(
        lines, starts.to_list(), ends.to_list(), wanted, strict=True
    ):
        text = line.encode()
        row_spans = zip(row_starts, row_ends, strict=True)
        assert [tuple(len(text[:i].decode()) for i in span) for span in row_spans] == spans, line


def test_writing(tiny):
    ids = tiny(["unable, a", "你"])["token_ids"]
    assert tiny.decode(ids) == ["unable, a", "你"]
    assert tiny.decode(ids, skip_special_tokens=False)[1] == "[CLS] 你 [SEP] [PAD] [PAD] [PAD]"
    continuation = VOCABULARY.index("##able")
    assert tiny.decode([continuation, continuation]) == "##ableable"


# Calling it.


def test_packs_a_batch(tiny):
    batch = tiny(["unable", ""])
    cls, sep, pad = tiny.cls_id, tiny.sep_id, tiny.pad_id
    assert batch["token_ids"].numpy().tolist() == [[cls, 5, 6, sep], [cls, sep, pad, pad]]
    assert batch["segment_ids"].numpy().tolist() == [[0] * 4] * 2
    assert batch["padding_mask"].numpy().tolist() == [[True] * 4, [True, True, False, False]]
    assert [x.dtype for x in batch.values()] == [tf.int32, tf.int32, tf.bool]


@pytest.mark.parametrize("pairs", [None, ["a b", "unable! " * 9]])
def test_padding(tiny, pairs):
    texts = ["a", "unable " * 9]
    longest = tiny(texts, pairs)
    assert longest["token_ids"].shape == (2, 16)
    assert tiny(texts, pairs, max_length=9, padding="max_length")["token_ids"].shape == (2, 9)
    for name, rows in tiny(texts, pairs, padding=None).items():
        wanted = tf.ragged.boolean_mask(longest[name], longest["padding_mask"])
        assert rows.to_list() == wanted.to_list(), name


@pytest.mark.parametrize("kind", [list, tuple, np.array, tf.constant])
def test_kinds_of_input(tiny, kind):
    wanted = tiny(["unable", "a"])["token_ids"].numpy()
    np.testing.assert_array_equal(tiny(kind(["unable", "a"]))["token_ids"], wanted)


def test_object_arrays_and_bytes(tiny):
    wanted = tiny(["unable", "你"])["token_ids"].numpy()
    for texts in (
        np.array(["unable", "你"], object),
        [b"unable", "你".encode()],
        ["unable", "你".encode()],
    ):
        np.testing.assert_array_equal(tiny(texts)["token_ids"], wanted)


@pytest.mark.parametrize("padding", ["longest", "max_length", None])
def test_no_texts(tiny, padding):
    for batch in (tiny([], padding=padding), tiny([], [], padding=padding)):
        assert batch["token_ids"].shape[0] == 0


def test_pairs_equal_the_reference(uncased, reference_of):
    reference = reference_of(uncased)
    text = st.builds(lambda n, m: "a " * n + "😀 " * m, st.integers(0, 12), st.integers(0, 3))

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.tuples(text, text), min_size=1, max_size=4), st.integers(3, 24))
    def check(rows, max_length):
        texts, pairs = map(list, zip(*rows, strict=True))
        options = dict(truncation=True, max_length=max_length, return_tensors="np")
        for theirs, ours in (
            (
                reference(texts, pairs, padding="longest", **options),
                uncased(texts, pairs, max_length=max_length),
            ),
            (
                reference(texts, padding="max_length", **options),
                uncased(texts, max_length=max_length, padding="max_length"),
            ),
        ):
            np.testing.assert_array_equal(ours["token_ids"], theirs["input_ids"])
            np.testing.assert_array_equal(ours["segment_ids"], theirs["token_type_ids"])
            np.testing.assert_array_equal(ours["padding_mask"], theirs["attention_mask"] == 1)

    check()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one text", r"one string; wrap it: \[texts\]"),
        (["a", None], r"texts\[1\] is None of type NoneType"),
        (["a", "b", 3.5], r"texts\[2\] is 3.5 of type float"),
        ([b"\xff"], r"texts\[0\] is not valid Unicode"),
        (["\ud800"], r"texts\[0\] is not valid Unicode"),
        (np.array([["a"]]), r"texts\[0\] is array"),
        ({"a": "b"}, "got dict"),
        (7, "got int"),
        (tf.constant([1]), r"rank 1, got int32 of shape \(1,\)"),
        (tf.constant("a"), "batch the data set"),
    ],
)
def test_input_that_is_no_text(tiny, texts, message):
    with pytest.raises(TypeError, match=message):
        tiny(texts)


def test_errors_of_a_call(tiny):
    with pytest.raises(TypeError, match=r"pairs\[0\] is None"):
        tiny(["a"], [None])
    with pytest.raises(ValueError, match="got 2 texts and 1 pairs"):
        tiny(["a", "b"], ["c"])
    with pytest.raises(ValueError, match="from 2 .* to 16 .* got 1"):
        tiny(["a"], max_length=1)
    with pytest.raises(ValueError, match="from 3 .* to 16 .* got 2"):
        tiny(["a"], ["b"], max_length=2)
    with pytest.raises(ValueError, match="got 17"):
        tiny(["a"], max_length=17)
    with pytest.raises(ValueError, match="got 'short'"):
        tiny(["a"], padding="short")


def test_errors_of_a_vocabulary():
    with pytest.raises(ValueError, match=r"lacks the special tokens \['\[SEP\]'\]"):
        WordPieceTokenizer([token for token in VOCABULARY if token != "[SEP]"])
    with pytest.raises(ValueError, match=r"more than once: \['un', ','\]"):
        WordPieceTokenizer([*VOCABULARY, "un", ","])


# On disk.


def test_a_vocabulary_round_trips_byte_for_byte(data, tmp_path):
    path = data / "vocab/bert_base_chinese/vocab.txt"
    WordPieceTokenizer(path).save(tmp_path)
    assert (tmp_path / "vocab.txt").read_bytes() == path.read_bytes()


def test_settings_round_trip(tmp_path):
    vocabulary = ["<pad>", *VOCABULARY[1:]]
    names = {"pad": "<pad>"}
    saved = WordPieceTokenizer(vocabulary, False, 99, strip_accents=True, special_tokens=names)
    saved.save(tmp_path)
    loaded = WordPieceTokenizer.from_directory(tmp_path)
    for name in ("vocabulary", "lowercase", "strip_accents", "max_length", "special_tokens"):
        assert getattr(loaded, name) == getattr(saved, name), name
    assert loaded.pad_id == 0
    assert WordPieceTokenizer.from_directory(tmp_path, max_length=7).max_length == 7


def test_reads_what_transformers_writes(tmp_path, reference_of):
    tokenizer = WordPieceTokenizer(VOCABULARY[:10], lowercase=False, max_length=33)
    reference_of(tokenizer).save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.txt").exists()
    loaded = WordPieceTokenizer.from_directory(tmp_path)
    assert loaded.vocabulary == tokenizer.vocabulary
    assert (loaded.lowercase, loaded.strip_accents, loaded.max_length) == (False, False, 33)


def test_reads_special_tokens_that_are_objects_and_no_limit(tmp_path):
    (tmp_path / "vocab.txt").write_bytes("\r\n".join(VOCABULARY).encode())
    config = {"model_max_length": 1e30, "cls_token": {"content": "[MASK]"}, "sep_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    loaded = WordPieceTokenizer.from_directory(tmp_path)
    assert loaded.vocabulary == VOCABULARY
    assert (loaded.cls_id, loaded.sep_id, loaded.max_length) == (4, 3, 512)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer_config.json", {"tokenize_chinese_chars": False}, "tokenize_chinese_chars=Fal"),
        ("tokenizer_config.json", {"word_tokenizer_type": "mecab"}, "word_tokenizer_type='mecab'"),
        ("tokenizer.json", {"model": {"type": "BPE"}}, "got model 'BPE'"),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"11": {"content": "covid", "special": False}}},
            "added token 'covid'",
        ),
    ],
)
def test_directories_of_other_tokenizers(tmp_path, name, content, message):
    (tmp_path / "vocab.txt").write_bytes("\n".join(VOCABULARY).encode())
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        WordPieceTokenizer.from_directory(tmp_path)


def test_a_directory_without_vocabulary(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither vocab.txt nor tokenizer.json"):
        WordPieceTokenizer.from_directory(tmp_path)


# In TensorFlow's other places.


def test_in_a_data_set(tiny):
    texts = [random.Random(i).choice(["a", "unable", "你!"]) for i in range(64)]
    data_set = tf.data.Dataset.from_tensor_slices(texts).batch(8)
    data_set = data_set.map(lambda batch: tiny(batch, batch), num_parallel_calls=4)
    rows = [row for batch in data_set for row in tiny.decode(batch["token_ids"])]
    assert rows == tiny.decode(tiny(texts, texts)["token_ids"])


def test_in_a_saved_model(tiny, tmp_path):
    module = tf.Module()
    module.serve = tf.function(
        lambda texts: tiny(texts), input_signature=[tf.TensorSpec([None], tf.string)]
    )
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    wanted = tiny(["unable", "a"])["token_ids"].numpy()
    np.testing.assert_array_equal(loaded.serve(tf.constant(["unable", "a"]))["token_ids"], wanted)
    graph = module.serve.get_concrete_function().graph.as_graph_def()
    ops = {node.op for function in graph.library.function for node in function.node_def}
    ops |= {node.op for node in graph.node}
    assert "FastBertNormalize" in ops
    assert not any("Table" in op or "Handle" in op for op in ops)


def test_a_keras_model_does_not_track_it(tiny):
    model = keras.Sequential([keras.layers.Dense(2)])
    model.tokenizer = tiny
    model.build((None, 3))
    assert model.tokenizer is tiny
    assert len(model.variables) == 2
    assert not hasattr(model, "_trackable_children") or not any(
        child is tiny for child in model._trackable_children().values()
    )


TFLITE_TEXTS = [
    "",
    "Unable, 你好!",
    "a" * 100,
    "я" * 101 + " a",
    "𐐨" * 100,
    "x\0\u200b한\u061d𫠠 [SEP]",
]
TFLITE_OPS = {"FastBertNormalize", "FastWordpieceTokenizeWithOffsets"}


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("padding", ["longest", "max_length"])
def test_in_tflite(tiny, padding, paired):
    def function(*inputs):
        return tiny(*inputs, padding=padding)["token_ids"]

    batch = 1 if padding == "max_length" else None
    signature = [tf.TensorSpec([batch], tf.string)] * (1 + paired)
    interpreter, ops = interpreter_of(function, signature, tiny.tflite_text_in)
    assert {op for op in ops if not op.isupper()} == TFLITE_OPS
    if batch:
        assert interpreter.get_output_details()[0]["shape"].tolist() == [1, 16]
    for texts in [[text] for text in TFLITE_TEXTS] + ([] if batch else [TFLITE_TEXTS]):
        inputs = [texts] * len(signature)
        np.testing.assert_array_equal(run(interpreter, *inputs), function(*inputs))


def test_offsets_in_tflite(tiny):
    def function(texts):
        return tf.stack([x.flat_values for x in tiny.tokenize_with_offsets(texts)])

    signature = [tf.TensorSpec([None], tf.string)]
    interpreter, ops = interpreter_of(function, signature, tiny.tflite_text_in)
    assert {op for op in ops if not op.isupper()} == TFLITE_OPS
    np.testing.assert_array_equal(run(interpreter, TFLITE_TEXTS), function(TFLITE_TEXTS))
