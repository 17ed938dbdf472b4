"""Artifacts of a token classifier find the entities that the task finds."""

import numpy as np
import pytest
import tensorflow as tf

import lingxi
from lingxi.text import WordPieceTokenizer
from tests.export.conftest import TEXTS
from tests.tasks.test_token_classifier import examples, new_task

LONG = "the old river is good and the tea was slow with rice and " * 6


@pytest.fixture(scope="module", params=[False, True], ids=["softmax", "crf"])
def task(request, vocabulary):
    tokenizer = WordPieceTokenizer(vocabulary, max_length=64)
    task = new_task(tokenizer, crf=request.param)
    task.fit(*examples(300), epochs=6, batch_size=16, learning_rate=3e-3, seed=1, verbose=0)
    return task


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert [(e.label, e.text, e.start, e.end) for e in one] == [
            (e.label, e.text, e.start, e.end) for e in other
        ]
        np.testing.assert_allclose([e.score for e in one], [e.score for e in other], atol=1e-5)


@pytest.mark.slow
def test_for_a_gpu_windows_of_all_texts_have_one_length(task, tmp_path):
    texts, inputs = [*TEXTS, LONG], []
    report = lingxi.export.saved_model(task, tmp_path / "model", target="gpu", examples=texts[:3])
    same(lingxi.export.load(report.path).tag(texts), task.tag(texts))

    def answers(tokenized):
        inputs.append(tokenized)
        return task.answers(tokenized)

    task.serving_function(tf.constant(["tea"]), padding="max_length", answers=answers)
    assert inputs[0]["token_ids"].shape == (1, task.max_length)


def test_saved_model_gives_spans_of_raw_text(task, tmp_path):
    texts = [*TEXTS, LONG]
    report = lingxi.export.saved_model(task, tmp_path / "model", examples=texts)
    assert report.agreement == 1.0
    assert report.max_difference < 1e-5
    inputs, outputs = report.signatures["serving_default"]
    assert list(inputs) == ["text"]
    assert set(outputs) == {"count", "start", "end", "label", "text", "score"}
    artifact = lingxi.export.load(tmp_path / "model")
    same(artifact.tag(texts), task.tag(texts))
    assert len(artifact.tag(LONG)) >= 18  # three in each of six parts


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_tflite_takes_ids_and_load_does_the_rest(task, tmp_path, quantize):
    path = tmp_path / "model.tflite"
    texts = [*TEXTS, LONG]
    lingxi.export.tflite(
        task, path, input="ids", quantize=quantize, examples=texts, min_agreement=0.8
    )
    artifact = lingxi.export.load(path)
    if quantize is None:
        same(artifact.tag(texts), task.tag(texts))
    else:
        assert [e.text for e in artifact.tag(LONG)] == [e.text for e in task.tag(LONG)]
    names = {op["op_name"] for op in artifact.graph.interpreter._get_ops_details()}
    assert not [name for name in names if name.startswith("Flex") or name == "CUSTOM"]


def test_raw_text_in_tflite_is_refused(task, tmp_path):
    with pytest.raises(ValueError, match='input="ids"'):
        lingxi.export.tflite(task, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


def test_pairs_are_refused(task, tmp_path):
    with pytest.raises(ValueError, match="takes single texts"):
        lingxi.export.saved_model(task, tmp_path / "model", pairs=True)
