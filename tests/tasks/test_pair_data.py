"""Pairs of texts in every form, to batches."""

import gzip

import numpy as np
import pytest
import tensorflow as tf

from lingxi.tasks import text_data
from lingxi.tasks.pair_data import PairBatches, neighbours, read_pairs, tokenized_pairs
from lingxi.training import IGNORED

SOURCES = ["a house", "two red birds", "Straße\u2028", ""]
TARGETS = ["ein Haus", "zwei rote Vögel", "street", "x"]


def write_lines(path, lines):
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


@pytest.fixture(params=["", ".gz"])
def ending(request):
    return request.param


def test_lists_arrays_and_tuples():
    wanted = SOURCES, TARGETS
    pairs = list(zip(SOURCES, TARGETS, strict=True))
    assert read_pairs(SOURCES, TARGETS) == wanted
    assert read_pairs((SOURCES, TARGETS)) == wanted
    assert read_pairs(pairs) == wanted
    assert read_pairs(np.array(pairs)) == wanted
    assert read_pairs(np.array(SOURCES), tuple(TARGETS)) == wanted


def test_two_files(tmp_path, ending):
    paths = [
        write_lines(tmp_path / f"{name}.txt{ending}", lines)
        for name, lines in (("source", SOURCES), ("target", TARGETS))
    ]
    assert read_pairs(*paths) == (SOURCES, TARGETS)
    assert read_pairs(tuple(paths)) == (SOURCES, TARGETS)


def test_a_file_of_two_columns(tmp_path, ending):
    lines = [f"{s}\t{t}\tattribution" for s, t in zip(SOURCES, TARGETS, strict=True)]
    path = write_lines(tmp_path / f"pairs.tsv{ending}", lines)
    assert read_pairs(path) == (SOURCES, TARGETS)


def test_lines_of_windows(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_bytes(b"\xef\xbb\xbfa\tb\r\nc\td\r\n")
    assert read_pairs(path) == (["a", "c"], ["b", "d"])


def test_blank_lines_are_left_out(tmp_path):
    path = write_lines(tmp_path / "pairs.tsv", ["a\tb", "", " ", "c\td"])
    assert read_pairs(path) == (["a", "c"], ["b", "d"])


def test_a_line_without_a_tab_is_named(tmp_path):
    path = write_lines(tmp_path / "pairs.tsv", ["a\tb", "only one"])
    with pytest.raises(ValueError, match=r"pairs\.tsv:2: .* got 'only one'"):
        read_pairs(path)


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (SOURCES, TARGETS[:-1], ValueError, "got 4 sources, but 3 targets"),
        ([], [], ValueError, "got no pairs"),
        (["a", "b"], None, TypeError, r"item 0 is no pair \(source, target\): 'a'"),
        ([("a", "b"), ("c",)], None, TypeError, "item 1 is no pair"),
        ("no/such/file.tsv", None, FileNotFoundError, "file.tsv"),
    ],
)
def test_what_is_no_pairs_is_named(x, y, error, message):
    with pytest.raises(error, match=message):
        read_pairs(x, y)


def test_a_data_set_that_is_not_prepared_is_named(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(FileNotFoundError, match="lingxi downloads nothing by itself"):
        read_pairs("ted_hrlr_translate/ru_to_en")


# Batches

START, PADS = 9, (7, 8)


def ids_of(lengths, first):
    """Rows of these lengths, filled with a number of their own."""
    return tf.ragged.constant([[first + i] * n for i, n in enumerate(lengths)], dtype=tf.int32)


def batches(sources=(1, 5, 2, 3, 4), targets=(2, 4, 2, 3, 1), **options):
    return PairBatches(ids_of(sources, 10), ids_of(targets, 20), START, PADS, **options)


def test_a_batch_shifts_the_target_and_pads():
    got = batches(sources=(1, 3), targets=(2, 3), order="given")
    assert got.num_batches == 1
    inputs, labels = got[0]
    np.testing.assert_array_equal(inputs["encoder_token_ids"], [[10, 7, 7], [11, 11, 11]])
    np.testing.assert_array_equal(inputs["encoder_padding_mask"], [[1, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(inputs["decoder_token_ids"], [[9, 20, 20], [9, 21, 21]])
    np.testing.assert_array_equal(labels, [[20, 20, IGNORED], [21, 21, 21]])


@pytest.mark.parametrize("order", ["sorted", "given", "shuffled"])
@pytest.mark.parametrize("tokens", [1, 9, 17, 1000])
def test_every_pair_is_in_one_batch_of_few_enough_tokens(order, tokens):
    random = np.random.default_rng(tokens)
    sources, targets = random.integers(1, 9, (2, 60))
    got = batches(sources, targets, tokens_per_batch=tokens, order=order, seed=0)
    seen = []
    for index in range(got.num_batches):
        inputs, labels = got[index]
        seen += inputs["encoder_token_ids"][:, 0].tolist()
        assert len(labels) == 1 or inputs["encoder_token_ids"].size + labels.size <= tokens
    assert sorted(seen) == list(range(10, 70))


def test_the_limit_holds_where_lengths_are_rounded_up(monkeypatch):
    monkeypatch.setattr(text_data, "LENGTH_STEP", 4)
    random = np.random.default_rng(1)
    got = batches(*random.integers(1, 9, (2, 60)), tokens_per_batch=50, order="shuffled", seed=0)
    for index in range(got.num_batches):
        inputs, labels = got[index]
        assert inputs["encoder_token_ids"].shape[1] % 4 == labels.shape[1] % 4 == 0
        assert inputs["encoder_token_ids"].size + labels.size <= 50


def test_neighbours_are_together_as_long_as_their_tokens_allow():
    lengths = [(4, 1), (1, 3), (9, 9), (2, 2), (2, 2), (2, 2), (2, 3)]
    got = list(neighbours(enumerate(lengths), 12))
    assert got == [[0], [1], [2], [3, 4, 5], [6]]
    assert list(neighbours(iter([]), 12)) == []


def test_a_batch_size_counts_pairs():
    got = batches(batch_size=2, order="given")
    assert [rows.tolist() for rows in got.rows] == [[0, 1], [2, 3], [4]]


def test_shuffled_batches_are_drawn_anew_as_many_and_by_seed():
    lengths = np.random.default_rng(0).integers(1, 9, (2, 80))

    def epochs(seed):
        dataset = batches(*lengths, tokens_per_batch=50, order="shuffled", seed=seed).dataset()
        drawn = [[labels.tobytes() for _, labels in dataset.as_numpy_iterator()] for _ in range(3)]
        assert {len(epoch) for epoch in drawn} == {int(dataset.cardinality())}
        return drawn

    first = epochs(seed=1)
    assert first[0] != first[1]
    assert sorted(first[0]) != sorted(first[1])  # other pairs meet, not only in another order
    assert epochs(seed=1) == first
    assert epochs(seed=2) != first


def test_batches_of_similar_lengths_have_hardly_any_padding(data_path):
    files = [data_path(f"multi30k/val.{language}.gz") for language in ("en", "de")]
    sources, targets = (ids_of([len(x.split()) for x in side], 0) for side in read_pairs(*files))
    got = PairBatches(sources, targets, START, PADS, tokens_per_batch=1024, order="shuffled")
    real = sources.flat_values.shape[0] + targets.flat_values.shape[0]
    padded = sum(x["encoder_token_ids"].size + y.size for x, y in map(got.__getitem__, range(20)))
    assert got.num_batches <= 1.15 * real / 1024 + 1
    assert padded / 20 > 0.8 * 1024


def test_weights_go_with_their_pairs():
    weights = np.arange(5, dtype="float32")
    got = batches(order="shuffled", batch_size=2, sample_weights=weights, seed=1)
    for inputs, _, weight in got.dataset().as_numpy_iterator():
        np.testing.assert_array_equal(inputs["encoder_token_ids"][:, 0] - 10, weight)


# Data sets of texts


def encode(sources, targets):
    """The bytes of texts as ids."""
    return tuple(
        tf.cast(tf.strings.unicode_decode(texts, "UTF-8"), tf.int32) for texts in (sources, targets)
    )


def as_dataset(num_pairs):
    texts = ["x" * (1 + i % 7) for i in range(num_pairs)]
    return tf.data.Dataset.from_tensor_slices((texts, texts[::-1]))


@pytest.mark.parametrize("batch_size", [None, 4])
def test_a_data_set_of_texts_becomes_batches(batch_size):
    dataset = as_dataset(50)
    if batch_size:
        dataset = dataset.batch(batch_size)
    got = tokenized_pairs(dataset, encode, START, PADS, tokens_per_batch=64, shuffle=False)
    sizes = 0
    for inputs, labels in got.as_numpy_iterator():
        assert batch_size or inputs["encoder_token_ids"].size + labels.size <= 64
        real = labels != IGNORED
        sizes += len(labels)
        assert (inputs["decoder_token_ids"][:, 0] == START).all()
        filled = np.where(real, labels, PADS[1])[:, :-1]
        np.testing.assert_array_equal(inputs["decoder_token_ids"][:, 1:], filled)
        mask = inputs["encoder_padding_mask"]
        assert (inputs["encoder_token_ids"] == np.where(mask, ord("x"), PADS[0])).all()
    assert sizes == 50


def test_a_data_set_of_other_things_is_named():
    with pytest.raises(TypeError, match="pairs .source, target. of strings"):
        tokenized_pairs(tf.data.Dataset.range(3), encode, START, PADS, 64, False)
