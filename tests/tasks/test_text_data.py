"""Batches of similar length; texts in every form; data sets of TFDS."""

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from lingxi.answers.batches import split_pairs
from lingxi.tasks import text_data
from lingxi.tasks.text_data import LengthBucketedBatches

PAD = 9


def batches_of(lengths, order, batch_size, seed=None, weights=False):
    """Batches of rows of `lengths` tokens, each token being the number of its row plus 100."""
    ids = [np.full(length, 100 + row, "int32") for row, length in enumerate(lengths)]
    flat = np.concatenate(ids) if ids else np.zeros(0, "int32")
    splits = np.cumsum([0, *lengths])

    def ragged(values):
        return tf.RaggedTensor.from_row_splits(values, splits)

    inputs = {
        "token_ids": ragged(flat),
        "segment_ids": ragged(np.ones_like(flat)),
        "padding_mask": ragged(np.ones(len(flat), bool)),
    }
    targets = np.arange(len(lengths), dtype="int32")
    sample_weights = targets.astype("float32") / 2 if weights else None
    return LengthBucketedBatches(inputs, targets, batch_size, PAD, order, seed, sample_weights)


LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=60)
ORDERS = ["given", "sorted", "shuffled"]


@settings(max_examples=60)
@given(LENGTHS, st.sampled_from(ORDERS), st.integers(1, 9), st.integers(0, 5), st.booleans())
def test_every_example_comes_once_and_whole(lengths, order, batch_size, seed, weights):
    batches = batches_of(lengths, order, batch_size, seed, weights)
    assert batches.num_examples == len(lengths)
    assert batches.num_batches == -(-len(lengths) // batch_size)
    seen, full = [], 0
    for index in range(batches.num_batches):
        inputs, targets, *rest = batches[index]
        np.testing.assert_array_equal(targets, batches.rows[index])
        longest = max(lengths[row] for row in targets)
        for name, value in inputs.items():
            assert value.shape == (len(targets), longest), name
        for row, ids, segments, mask in zip(
            targets,
            inputs["token_ids"],
            inputs["segment_ids"],
            inputs["padding_mask"],
            strict=True,
        ):
            real = [100 + row] * lengths[row]
            assert ids.tolist() == real + [PAD] * (longest - len(real))
            assert (
                segments.tolist() == mask.tolist() == [1] * len(real) + [0] * (longest - len(real))
            )
        assert len(rest) == weights
        if weights:
            np.testing.assert_array_equal(rest[0], targets / 2)
        full += len(targets) == batch_size
        seen += targets.tolist()
    assert sorted(seen) == list(range(len(lengths)))
    assert full >= batches.num_batches - 1


def test_the_given_order_is_kept():
    batches = batches_of([3, 1, 2, 5, 4], "given", 2)
    assert [rows.tolist() for rows in batches.rows] == [[0, 1], [2, 3], [4]]


def test_the_sorted_order_is_by_length_and_stable():
    batches = batches_of([3, 1, 2, 1, 4], "sorted", 2)
    assert [rows.tolist() for rows in batches.rows] == [[1, 3], [2, 0], [4]]


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_hardly_any_padding_is_left(order):
    random = np.random.default_rng(0)
    lengths = random.integers(3, 128, 5000)
    batches = batches_of(lengths, order, 32, seed=0)
    padded = real = 0
    for index in range(batches.num_batches):
        mask = batches[index][0]["padding_mask"]
        padded, real = padded + mask.size, real + mask.sum()
    assert real == lengths.sum()
    assert padded / real < 1.03
    batches = batches_of(lengths, "given", 32)
    given_size = sum(batches[i][0]["padding_mask"].size for i in range(batches.num_batches))
    assert given_size / real > 1.5


def test_the_shuffled_order_is_new_every_epoch_and_repeats_with_its_seed():
    def epochs(seed):
        data = batches_of([5] * 40, "shuffled", 4, seed).dataset()
        return [[row for _, y in data.as_numpy_iterator() for row in y] for _ in range(2)]

    first, second = epochs(seed=1)
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second
    assert epochs(seed=1) == [first, second]
    assert epochs(seed=2)[0] != first


def test_batches_of_long_texts_come_anywhere_in_an_epoch():
    places = []
    for seed in range(20):
        batches = batches_of(list(range(1, 41)), "shuffled", 4, seed)
        (place,) = [i for i, rows in enumerate(batches.rows) if 39 in rows]
        places.append(place)
    assert len(set(places)) > 3


@pytest.mark.parametrize("order", ORDERS)
def test_a_data_set_knows_its_size_and_types(order):
    data = batches_of([3, 1, 2, 5, 4], order, 2, weights=True).dataset()
    assert int(data.cardinality()) == 3
    for _ in range(2):
        seen = Counter()
        for inputs, targets, weights in data:
            assert inputs["token_ids"].dtype == inputs["segment_ids"].dtype == tf.int32
            assert inputs["padding_mask"].dtype == tf.bool
            np.testing.assert_array_equal(weights, targets.numpy() / 2)
            seen.update(targets.numpy().tolist())
        assert seen == Counter(range(5))


def test_no_examples_are_no_batches():
    assert batches_of([], "sorted", 4).num_batches == 0


# Texts and pairs


@pytest.mark.parametrize(
    ("x", "first", "second"),
    [
        (["a", "b"], ["a", "b"], None),
        ([], [], None),
        (("a", "b"), ["a", "b"], None),
        ([("a", "b"), ("c", "d")], ["a", "c"], ["b", "d"]),
        ([["a", "b"]], ["a"], ["b"]),
        ((["a", "c"], ["b", "d"]), ["a", "c"], ["b", "d"]),
        (np.array([["a", "b"], ["c", "d"]]), ["a", "c"], ["b", "d"]),
        (np.array(["a", "b"]), ["a", "b"], None),
    ],
    ids=str,
)
def test_texts_are_split_into_first_and_second(x, first, second):
    got_first, got_second = split_pairs(x)
    assert list(got_first) == first
    assert (got_second if got_second is None else list(got_second)) == second


# TFDS

WRITE = """
import sys
import numpy as np
import tensorflow_datasets as tfds

ROWS = {
    "train": [("good film", "the river", 1), ("bad film", "the tea", 0), ("fine", "rice", 1)],
    "validation": [("dull", "a", 0), ("great", "b", 1)],
}

class LingxiToy(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=name) for name in ("single", "pair", "unlabelled", "plain")
    ]

    def _info(self):
        names = None if self.builder_config.name == "plain" else ["negative", "positive"]
        label = tfds.features.ClassLabel(names=names) if names else tfds.features.Scalar(np.int64)
        number = tfds.features.Scalar(np.int32)
        features = {"sentence": tfds.features.Text(), "label": label, "idx": number}
        if self.builder_config.name == "pair":
            features = {
                "premise": tfds.features.Text(), "hypothesis": tfds.features.Text(), "label": label
            }
        if self.builder_config.name == "unlabelled":
            del features["label"]
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {name: self._generate_examples(rows) for name, rows in ROWS.items()}

    def _generate_examples(self, rows):
        for index, (first, second, label) in enumerate(rows):
            example = {"sentence": first, "label": label, "idx": index}
            if self.builder_config.name == "pair":
                example = {"premise": first, "hypothesis": second, "label": label}
            if self.builder_config.name == "unlabelled":
                del example["label"]
            yield index, example

for config in ("single", "pair", "unlabelled", "plain"):
    LingxiToy(config=config, data_dir=sys.argv[1]).download_and_prepare()
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Data sets on disk, written by another process: nothing but the files is left of them."""
    tfds = pytest.importorskip(
        "tensorflow_datasets", reason="needs the extra `tfds`: pip install 'lingxi[tfds]'"
    )
    folder = tmp_path_factory.mktemp("tfds")
    script = folder / "lingxi_toy_writer.py"
    script.write_text(WRITE)
    result = subprocess.run(
        [sys.executable, script, folder / "data"], capture_output=True, text=True, cwd=folder
    )
    assert result.returncode == 0, result.stderr[-3000:]
    tfds.core.add_data_dir(str(folder / "data"))
    return folder / "data"


def as_text(values):
    return [value.decode() for value in values]


def test_a_prepared_data_set_gives_texts_and_label_names(prepared):
    x, y = text_data.load_tfds("lingxi_toy/single", "train")
    by_text = dict(zip(as_text(x), y, strict=True))
    assert by_text == {"good film": "positive", "bad film": "negative", "fine": "positive"}


def test_a_prepared_data_set_of_pairs_keeps_them_together(prepared):
    (first, second), y = text_data.load_tfds("lingxi_toy/pair", "train")
    rows = set(zip(as_text(first), as_text(second), y, strict=True))
    assert rows == {
        ("good film", "the river", "positive"),
        ("bad film", "the tea", "negative"),
        ("fine", "rice", "positive"),
    }


def test_labels_without_names_are_ids(prepared):
    x, y = text_data.load_tfds("lingxi_toy/plain", "validation")
    assert dict(zip(as_text(x), map(int, y), strict=True)) == {"dull": 0, "great": 1}


@pytest.mark.parametrize("name", ["lingxi_toy/single", "lingxi_toy/pair", "lingxi_toy/plain"])
def test_fit_and_evaluate_take_the_name(prepared, learner, name):
    classifier = learner()
    history = classifier.fit(name, epochs=2, batch_size=2, verbose=0)
    assert len(history.history["val_accuracy"]) == 2
    loss, _ = classifier.evaluate(name, verbose=0)
    assert loss == pytest.approx(history.history["val_loss"][-1], rel=1e-4)


def test_a_data_set_without_that_split_lists_its_splits(prepared):
    with pytest.raises(ValueError, match=r"no split 'test'; it has \['train', 'validation'\]"):
        text_data.load_tfds("lingxi_toy/single", "test")


def test_a_data_set_without_labels_lists_its_features(prepared):
    with pytest.raises(ValueError, match=r"no feature 'label'; it has (?=.*'idx')(?=.*'sentence')"):
        text_data.load_tfds("lingxi_toy/unlabelled", "train")


def test_a_data_set_that_is_not_prepared_says_how_to_prepare_it(prepared, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"'glue/sst2' is not at .*downloads nothing"):
        text_data.load_tfds("glue/sst2", "train")


def test_a_text_in_place_of_a_data_sets_name_is_an_error(prepared, tiny_classifier):
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match="a good film"):
        tiny_classifier().fit("a good film", ["positive"])


def test_without_the_package_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match="pip install tensorflow-datasets"):
        text_data.load_tfds("glue/sst2", "train")
