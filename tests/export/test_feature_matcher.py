"""A matcher in a file finds what the matcher finds."""

import numpy as np
import pytest
import tensorflow as tf

from lingxi import export
from lingxi.export import VerificationError
from lingxi.images import read
from tests.export.conftest import names
from tests.tasks.matchers import new_matcher, pair, picture

SIZE = (64, 96)


@pytest.fixture(scope="module")
def matcher():
    return new_matcher()


@pytest.fixture(scope="module")
def examples():
    return [pair(seed=seed)[0] for seed in (1, 2)]


@pytest.fixture(scope="module")
def saved_model(matcher, examples, tmp_path_factory):
    return export.saved_model(matcher, tmp_path_factory.mktemp("serving"), examples=examples)


@pytest.fixture(scope="module")
def tflite(matcher, examples, tmp_path_factory):
    path = tmp_path_factory.mktemp("phone") / "matcher.tflite"
    return export.tflite(matcher, path, size=SIZE, examples=examples)


def in_common(a, b):
    """Of two `Matches`, those of the same place in A, as two arrays `[matches, 3]`."""
    found = [
        {
            tuple(place.round()): (*other, score)
            for place, other, score in zip(m.points_a, m.points_b, m.scores, strict=True)
        }
        for m in (a, b)
    ]
    both = sorted(found[0].keys() & found[1].keys())
    assert len(both) >= 0.9 * max(len(a), len(b)) > 0
    return (np.array([side[place] for place in both]) for side in found)


@pytest.mark.slow
def test_xla_compiles_it_for_a_gpu(matcher, examples, tmp_path):
    report = export.saved_model(matcher, tmp_path, target="gpu", examples=examples)
    assert report.target == "gpu" and report.agreement == 1.0 and report.max_difference < 1e-3


def test_a_saved_model_takes_files_and_pictures_of_any_size(saved_model, matcher):
    assert saved_model.agreement == 1.0 and saved_model.max_difference < 1e-3
    assert "ms a pair" in str(saved_model)
    assert set(saved_model.signatures) == {"serving_default", "pictures"}
    artifact = export.load(saved_model.path)
    images = picture(50, 90), picture(120, 200)
    found, wanted = in_common(artifact.match(*images), matcher.match(*images))
    np.testing.assert_allclose(found, wanted, atol=0.01)
    serve = tf.saved_model.load(str(saved_model.path)).signatures["serving_default"]
    files = (tf.constant([tf.io.encode_jpeg(image).numpy()] * 3) for image in images)
    found = serve(**dict(zip(("image_a", "image_b"), files, strict=True)))
    assert found["points_a"].shape == found["points_b"].shape == (3, 64, 2)
    assert found["is_match"].numpy().any()


def test_examples_of_any_depth_are_the_same_for_every_signature(saved_model):
    artifact = export.load(saved_model.path)
    shrunk = tf.image.resize(picture(120, 200), [97, 131]).numpy() / 255  # levels of no file
    ((first, second),) = artifact.listed([(shrunk, picture())])
    for example, given in ((first, shrunk), (second, picture())):
        np.testing.assert_allclose(read(example), read(given), atol=1e-5)
        decoded = read(tf.io.encode_png(example).numpy())
        np.testing.assert_allclose(decoded, read(example), atol=2e-7)


def test_a_tflite_file_has_builtin_operations_only_and_takes_any_picture(tflite, matcher):
    assert tflite.agreement == 1.0 and tflite.max_difference < 1e-3
    artifact = export.load(tflite.path)
    operators = {op["op_name"] for op in artifact.graph.interpreter._get_ops_details()}
    assert not any(name.startswith(("Flex", "Custom")) for name in operators)
    (images, _) = pair(*SIZE)
    found, wanted = in_common(artifact.match(*images), matcher.match(*images))
    np.testing.assert_allclose(found, wanted, atol=0.01)
    large = picture(128, 192), picture(64, 40)  # shrunk by 2; padded
    found = artifact.match(*large)
    assert len(found) and found.points_a.max() > 96
    assert (found.points_b[:, 0] < 40).all()


def test_weights_of_eight_bits_are_smaller_and_find_nearly_the_same(
    matcher, tflite, examples, tmp_path
):
    report = export.tflite(
        matcher,
        tmp_path / "m.tflite",
        quantize="int8",
        size=SIZE,
        examples=examples,
        min_agreement=0.5,
    )
    assert report.precision == "int8" and report.size < tflite.size


def test_other_weights_are_noticed(saved_model, examples):
    with pytest.raises(VerificationError, match="of 2 pairs, but 100.0% are required"):
        export.verify(new_matcher(seed=8), saved_model.path, examples=examples)


@pytest.mark.parametrize(
    ("form", "options", "message"),
    [
        ("saved_model", {"max_length": 8}, "are for texts"),
        ("saved_model", {"pairs": True}, "are for texts"),
        ("tflite", {"max_length": 8}, "are for texts"),
        ("tflite", {"size": (60, 96)}, "multiples of 8"),
        ("tflite", {"size": (64,)}, "a height and a width"),
        ("tflite", {"quantize": "int2"}, "quantize must be one of"),
    ],
)
def test_bad_arguments_leave_nothing(matcher, tmp_path, form, options, message):
    path = tmp_path / "matcher.tflite" if form == "tflite" else tmp_path
    with pytest.raises(ValueError, match=message):
        getattr(export, form)(matcher, path, **options)
    assert names(tmp_path) == []


def test_size_is_not_for_texts(classifier, tmp_path):
    with pytest.raises(ValueError, match="size is for pictures; a TextClassifier takes texts"):
        export.tflite(classifier, tmp_path / "model.tflite", size=SIZE)
