"""Artifacts of a RoBERTa classifier: its tokenizer runs in a SavedModel, and beside TFLite."""

import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from lingxi import export
from tests.export.conftest import PAIRS, TEXTS, matrix, names
from tests.export.test_saved_model import SERVER
from tests.tasks.roberta import roberta_classifier

OUTPUTS = {"label": "string[None]", "score": "float32[None]", "probabilities": "float32[None, 2]"}


@pytest.fixture(scope="module")
def classifier():
    return roberta_classifier()


@pytest.fixture(scope="module")
def served(classifier, tmp_path_factory):
    """The report of a SavedModel of single texts."""
    return export.saved_model(classifier, tmp_path_factory.mktemp("served"))


@pytest.mark.parametrize("pairs", [False, True], ids=["texts", "pairs"])
@pytest.mark.parametrize("form", ["saved_model", "tflite"])
def test_it_gives_the_answers_of_the_task(classifier, tmp_path, form, pairs):
    path, options = tmp_path / "model.tflite", {"input": "ids"}
    if form == "saved_model":
        path, options = tmp_path, {}
    report = getattr(export, form)(classifier, path, pairs=pairs, **options)
    assert report.agreement == 1.0
    assert report.max_difference < 1e-5
    texts = PAIRS if pairs else TEXTS
    found = export.load(path).classify(texts)
    np.testing.assert_allclose(matrix(found), matrix(classifier.classify(texts)), atol=1e-5)


def test_the_signatures_have_no_segments(served):
    assert served.signatures == {
        "serving_default": ({"text": "string[None]"}, OUTPUTS),
        "token_ids": (
            {"token_ids": "int32[None, None]", "padding_mask": "bool[None, None]"},
            OUTPUTS,
        ),
    }


@pytest.mark.slow
def test_a_process_with_tensorflow_alone_serves_it(served, classifier, tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", SERVER, served.path, json.dumps(TEXTS)],
        capture_output=True,
        timeout=120,
        text=True,
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["imported"] == []
    np.testing.assert_allclose(
        found["probabilities"], matrix(classifier.classify(TEXTS)), atol=1e-5
    )


def test_a_tflite_file_takes_ids_and_carries_the_tokenizer(classifier, tmp_path):
    path = tmp_path / "model.tflite"
    report = export.tflite(classifier, path, quantize="int8", input="ids", min_agreement=0)
    inputs, _ = report.signatures["serving_default"]
    assert inputs == {"token_ids": "int32[1, 32]", "padding_mask": "bool[1, 32]"}
    Interpreter(model_path=str(path)).allocate_tensors()  # builtin operations only
    with zipfile.ZipFile(path) as archive:
        assert {"vocab.json", "merges.txt"} <= set(archive.namelist())
    tokenizer = export.load(path).graph.tokenizer
    assert tokenizer.get_config() == classifier.tokenizer.get_config()


def test_text_in_tflite_is_refused_before_any_work(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(tf.lite.TFLiteConverter, "convert", None)
    with pytest.raises(ValueError, match='with this ByteBpeTokenizer; pass input="ids"'):
        export.tflite(classifier, tmp_path / "new" / "model.tflite")
    assert names(tmp_path) == []


def test_bfloat16(classifier, tmp_path):
    report = export.saved_model(classifier, tmp_path, precision="bfloat16", min_agreement=0)
    assert 1e-6 < report.max_difference < 0.1
