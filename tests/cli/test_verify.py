"""`lingxi verify`, and what `lingxi inspect` shows of an artifact: card, sizes and checksums."""

import sys

import pytest

CARD = {"training_data": "12 rows\nof a table", "metrics": {"accuracy": 0.75, "labels": ["a", 2]}}


@pytest.fixture(scope="session")
def artifacts(model, tmp_path_factory):
    """Paths of a SavedModel and of a TFLite file of the classifier, with cards."""
    from lingxi import export
    from lingxi.tasks import TextClassifier

    directory = tmp_path_factory.mktemp("artifacts")
    classifier = TextClassifier.from_preset(str(model))
    export.saved_model(classifier, directory / "serving", card=CARD)
    export.tflite(classifier, directory / "model.tflite", input="ids", card=CARD)
    return directory / "serving", directory / "model.tflite"


def test_the_proof_is_repeated(lingxi, model, artifacts, table):
    for path in artifacts:
        outcome = lingxi("verify", path, "--against", model)
        assert outcome.status == 0, outcome.err
        assert "agreement        100.0% on 40 texts" in outcome.out
    outcome = lingxi("verify", artifacts[1], "--against", model, "--data", table)
    assert "on 12 texts" in outcome.out


def test_another_task_is_no_proof(lingxi, artifacts, tiny_classifier, tmp_path):
    other = tiny_classifier()
    kernel, bias = other.head.get_weights()
    other.head.set_weights([-kernel, -bias])
    other.save_preset(tmp_path / "other")
    outcome = lingxi("verify", artifacts[1], "--against", "other")
    assert outcome.status == 1
    assert "of 40 texts, but 100.0% are required" in outcome.err


def test_a_changed_artifact_is_refused(lingxi, model, artifacts, tmp_path):
    content = bytearray(artifacts[1].read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "changed.tflite").write_bytes(content)
    for command in (
        ("verify", "changed.tflite", "--against", model),
        ("inspect", "changed.tflite"),
        ("predict", "--model", "changed.tflite", "a text"),
    ):
        outcome = lingxi(*command)
        assert outcome.status == 1
        assert "damaged" in outcome.err


def test_inspect_shows_the_card_and_the_sizes(lingxi, artifacts):
    for path in artifacts:
        text = " ".join(lingxi("inspect", path).out.split())
        assert "architecture Bert, " in text
        assert "verified 100.0% of 40 answers equal to Keras" in text
        assert "training data 12 rows of a table" in text
        assert "metrics accuracy 0.75, labels a, 2" in text
        assert "as written" in text
        for component in ("embeddings", "layers", "tokenizer", "graph", "metadata"):
            assert f" {component} 0." in text


def test_inspect_draws_the_sizes(lingxi, artifacts, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra `plots`")
    assert lingxi("inspect", artifacts[1], "--chart", "sizes.png").status == 0
    assert (tmp_path / "sizes.png").read_bytes().startswith(b"\x89PNG")


def test_a_chart_without_the_extra_is_an_error_that_names_it(lingxi, artifacts, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    outcome = lingxi("inspect", artifacts[1], "--chart", "sizes.png")
    assert (outcome.status, "pip install 'lingxi[plots]'" in outcome.err) == (1, True)


def test_a_preset_has_no_chart(lingxi, model):
    assert lingxi("inspect", model, "--chart", "sizes.png").status == 2
