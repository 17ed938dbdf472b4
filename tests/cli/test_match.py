"""`lingxi match` finds, prints, draws and writes matches."""

import csv

import pytest
import tensorflow as tf

from tests.tasks.matchers import new_matcher, pair


@pytest.fixture(scope="module")
def matcher(tmp_path_factory):
    """The directory of a matcher."""
    directory = tmp_path_factory.mktemp("matcher") / "tiny"
    new_matcher().save_preset(directory)
    return directory


@pytest.fixture
def pictures(tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.jpg"]
    (a, b), _ = pair()
    paths[0].write_bytes(tf.io.encode_png(a).numpy())
    paths[1].write_bytes(tf.io.encode_jpeg(b).numpy())
    return paths


def test_match_prints_draws_and_writes(lingxi, matcher, pictures, tmp_path):
    pytest.importorskip("matplotlib")
    written = ("--out", "matches.png", "--data", "matches.csv")
    outcome = lingxi("match", "--model", matcher, *pictures, *written)
    assert outcome.status == 0, outcome.err
    count, *_ = outcome.out.split()
    assert " matches\n" in outcome.out and "homography" in outcome.out
    assert (tmp_path / "matches.png").read_bytes().startswith(b"\x89PNG")
    with open(tmp_path / "matches.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == int(count) > 0
    assert list(rows[0]) == ["x_a", "y_a", "x_b", "y_b", "score"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["a.png"], 2, "match takes two pictures"),
        (["a.png", "nothing.png"], 1, "no picture at nothing.png"),
        (["a.png", "b.jpg", "--data", "matches.txt"], 1, "must end in .csv"),
    ],
)
def test_bad_usage(lingxi, matcher, pictures, arguments, status, message):
    outcome = lingxi("match", "--model", matcher, *arguments)
    assert outcome.status == status
    assert message in outcome.err


def test_another_task_is_no_matcher(lingxi, model, pictures):
    outcome = lingxi("match", "--model", model, *pictures)
    assert outcome.status == 1
    assert "is a TextClassifier, no FeatureMatcher: use lingxi predict" in outcome.err


def test_a_matcher_is_exported_and_inspected(lingxi, matcher, tmp_path):
    written = ("--format", "tflite", "--output", "m.tflite", "--size", "64,96")
    outcome = lingxi("export", "--model", matcher, *written, "--min_agreement", "0")
    assert outcome.status == 0, outcome.err
    assert "64 x 96 pixels" in lingxi("inspect", tmp_path / "m.tflite").out
    assert "max_size" in lingxi("inspect", matcher).out


def test_predict_names_the_command_for_pictures(lingxi, matcher):
    outcome = lingxi("predict", "--model", matcher, "a text")
    assert outcome.status == 2
    assert "lingxi match --model PATH A B" in outcome.err
