"""Directories for Hugging Face: what is in them, and that they are whole or not there."""

import json

import pytest

from lingxi import export
from lingxi.tasks import TextClassifier
from lingxi.zoo import Bert, checkpoint
from tests.export.conftest import LABELS, TEXTS, matrix, names

MODEL_FILES = ["config.json", "model.safetensors"]
TASK_FILES = sorted([*MODEL_FILES, "special_tokens_map.json", "tokenizer_config.json", "vocab.txt"])


def test_the_files_of_a_model(classifier, tmp_path):
    export.huggingface(classifier.backbone, tmp_path / "new" / "encoder")
    assert names(tmp_path / "new" / "encoder") == MODEL_FILES
    assert Bert.from_preset(tmp_path / "new" / "encoder").config == classifier.backbone.config


def test_the_files_of_a_task(classifier, tmp_path):
    export.huggingface(classifier, tmp_path / "task")
    assert names(tmp_path / "task") == TASK_FILES
    config = json.loads((tmp_path / "task" / "config.json").read_text("utf-8"))
    assert config["id2label"] == dict(zip("01", LABELS, strict=True))
    loaded = TextClassifier.from_preset(tmp_path / "task")
    difference = matrix(loaded.classify(TEXTS)) - matrix(classifier.classify(TEXTS))
    assert abs(difference).max() < 1e-6


@pytest.mark.parametrize("whole_task", [False, True], ids=["model", "task"])
def test_a_failure_leaves_nothing(classifier, tmp_path, monkeypatch, whole_task):
    def fail(table, path):
        path.write_bytes(b"half")
        raise RuntimeError("stopped half way")

    monkeypatch.setattr(checkpoint, "save", fail)
    with pytest.raises(RuntimeError, match="stopped half way"):
        export.huggingface(classifier if whole_task else classifier.backbone, tmp_path / "model")
    assert names(tmp_path) == []


def test_an_older_model_is_replaced(classifier, tmp_path):
    export.huggingface(classifier, tmp_path / "model")
    export.huggingface(classifier.backbone, tmp_path / "model")
    assert names(tmp_path / "model") == MODEL_FILES
    assert names(tmp_path) == ["model"]


def test_an_empty_directory_is_filled(classifier, tmp_path):
    (tmp_path / "model").mkdir()
    export.huggingface(classifier.backbone, tmp_path / "model")
    assert names(tmp_path / "model") == MODEL_FILES


@pytest.mark.parametrize("whole_task", [False, True], ids=["model", "task"])
def test_a_directory_of_other_things_is_never_replaced(classifier, tmp_path, whole_task):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match=f"{tmp_path} holds files, but no config.json"):
        export.huggingface(classifier if whole_task else classifier.backbone, tmp_path)
    assert names(tmp_path) == ["thesis.txt"]


def test_something_else_is_refused(tmp_path):
    with pytest.raises(TypeError, match="a model of lingxi.zoo or a task of lingxi.tasks, got str"):
        export.huggingface("bert", tmp_path / "model")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "roberta", "num_segments": 1, "position_offset": 2, "pad_id": 1},
        {"model_type": "distilbert", "num_segments": 0},
        {"model_type": "electra", "embedding_dim": 16},
    ],
    ids=lambda config: config["model_type"],
)
def test_classifiers_of_every_kind_learn_and_are_exported(tiny_classifier, toy, tmp_path, config):
    classifier = tiny_classifier(LABELS, config={**config, "pooler": False})
    classifier.fit(*toy, batch_size=32, verbose=0)
    export.huggingface(classifier, tmp_path / "model")
    assert names(tmp_path / "model") == TASK_FILES
    loaded = TextClassifier.from_preset(tmp_path / "model")
    difference = matrix(loaded.classify(TEXTS)) - matrix(classifier.classify(TEXTS))
    assert abs(difference).max() < 1e-6
    assert export.saved_model(classifier, tmp_path / "served").label_agreement == 1.0
    assert export.tflite(classifier, tmp_path / "text.tflite").label_agreement == 1.0
    assert export.tflite(classifier, tmp_path / "ids.tflite", input="ids").label_agreement == 1.0
