"""`lingxi.export.load`: an artifact of either kind has the verb of its task."""

import shutil
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from lingxi import export
from lingxi.tasks.text_classifier import Classification
from tests.export.conftest import LABELS, PAIRS, TEXTS, matrix


def model_alone(path):
    """The bytes of a TFLite file without the archive behind the model."""
    with zipfile.ZipFile(path) as archive:
        return path.read_bytes()[: min(entry.header_offset for entry in archive.infolist())]


def test_classify_gives_the_answers_of_the_task(artifact_path, classifier, loaded):
    found, expected = loaded(artifact_path).classify(TEXTS), classifier.classify(TEXTS)
    assert all(type(answer) is Classification for answer in found)
    assert [(a.label, a.labels) for a in found] == [(a.label, a.labels) for a in expected]
    assert all(tuple(answer.probabilities) == LABELS for answer in found)
    np.testing.assert_allclose(matrix(found), matrix(expected), atol=1e-5)
    assert all(answer.score == answer.probabilities[answer.label] for answer in found)


def test_many_texts_keep_their_order(artifact_path, toy, loaded):
    """More than two batches, of all lengths, one part of a batch left over."""
    texts, labels = (2 * toy[0])[:71], (2 * toy[1])[:71]
    found = loaded(artifact_path).classify(texts)
    assert [answer.label for answer in found] == labels


def test_many_pairs_keep_their_order(pairs_path, classifier, loaded):
    pairs = [PAIRS[i % 7] for i in range(35)]
    found = loaded(pairs_path).classify(pairs)
    np.testing.assert_allclose(matrix(found), matrix(classifier.classify(pairs)), atol=1e-5)


@pytest.mark.parametrize("empty", [[], (), np.array([], str)], ids=["list", "tuple", "array"])
def test_no_texts_no_answers(artifact_path, empty, loaded):
    assert loaded(artifact_path).classify(empty) == []


def test_no_pairs_no_answers(pairs_path, loaded):
    assert loaded(pairs_path).classify([]) == []


def test_an_empty_string_is_a_text(artifact_path, classifier, loaded):
    (found,) = loaded(artifact_path).classify([""])
    (expected,) = classifier.classify([""])
    assert found.label == expected.label
    assert found.score == pytest.approx(expected.score, abs=1e-5)


@pytest.mark.parametrize(
    "texts",
    [np.array(["good", "bad"]), np.array(["good", "bad"], object), tf.constant(["good", "bad"])],
    ids=["array", "objects", "tensor"],
)
def test_texts_may_be_an_array(artifact_path, texts, loaded):
    found = loaded(artifact_path).classify(texts)
    assert [answer.label for answer in found] == [LABELS[1], LABELS[0]]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["good", None], r"texts\[1\] is None"),
        ([3.5], r"texts\[0\] is 3.5"),
        ("good", "must be a list of strings"),
        (None, "must be a list of strings"),
    ],
)
def test_what_is_no_text_is_refused(artifact_path, texts, message, loaded):
    with pytest.raises(TypeError, match=message):
        loaded(artifact_path).classify(texts)


def test_a_second_text_that_is_none_is_refused(pairs_path, loaded):
    with pytest.raises(TypeError, match=r"pairs\[1\] is None"):
        loaded(pairs_path).classify([("good", "bad"), ("good", None)])


def test_pairs_for_an_artifact_of_single_texts_are_refused(artifact_path, loaded):
    with pytest.raises(ValueError, match="exported for single texts"):
        loaded(artifact_path).classify(PAIRS)


def test_single_texts_for_an_artifact_of_pairs_are_refused(pairs_path, loaded):
    with pytest.raises(ValueError, match=r"exported for pairs \(text, pair\)"):
        loaded(pairs_path).classify(TEXTS)


@pytest.mark.parametrize("columns", [(["a", "b"], ["c"]), (["a"], ["b", "c"]), ([], ["c"])])
def test_texts_and_pairs_are_equally_many(pairs_path, columns, loaded):
    with pytest.raises(ValueError, match=f"{len(columns[0])} texts and {len(columns[1])} pairs"):
        loaded(pairs_path).classify(columns)


def test_two_columns_are_pairs(pairs_path, classifier, loaded):
    first, second = map(list, zip(*PAIRS, strict=True))
    found = loaded(pairs_path).classify((first, second))
    np.testing.assert_allclose(matrix(found), matrix(classifier.classify(PAIRS)), atol=1e-5)


def test_a_directory_of_versions_gives_the_highest(exported, tmp_path):
    path, _ = exported("saved_model")
    for version in ("2", "9", "10"):
        shutil.copytree(path, tmp_path / version)
    (tmp_path / "notes").mkdir()
    assert export.load(tmp_path).path == tmp_path / "10"
    assert export.load(str(tmp_path / "2")).path == tmp_path / "2"
    (answer,) = export.load(tmp_path).classify(["a lovely film"])
    assert answer.label == LABELS[1]


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "nothing")):
        export.load(tmp_path / "nothing")


def make_foreign_tflite(path, exported):
    path.write_bytes(model_alone(exported("tflite", input="ids")[0]))


def make_foreign_saved_model(path, exported):
    tf.saved_model.save(tf.Module(), str(path))


def make_versions_of_foreign_saved_models(path, exported):
    tf.saved_model.save(tf.Module(), str(path / "1"))


def make_foreign_zip(path, exported):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("labels.txt", "a\nb\n")


def make_text_file(path, exported):
    path.write_text("no model")


def make_empty_file(path, exported):
    path.touch()


def make_empty_directory(path, exported):
    path.mkdir()


@pytest.mark.parametrize(
    "make",
    [
        make_foreign_tflite,
        make_foreign_saved_model,
        make_versions_of_foreign_saved_models,
        make_foreign_zip,
        make_text_file,
        make_empty_file,
        make_empty_directory,
    ],
    ids=lambda make: make.__name__.removeprefix("make_"),
)
def test_what_lingxi_did_not_write_is_refused(make, exported, tmp_path):
    path = tmp_path / "foreign"
    make(path, exported)
    with pytest.raises(ValueError, match=f"{path}.* is not an artifact of lingxi"):
        export.load(path)
