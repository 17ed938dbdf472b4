"""A question answerer in a SavedModel and in a TFLite file."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the tokenizer's operations
from ai_edge_litert.interpreter import Interpreter

from lingxi import export
from tests.tasks.questions import QUESTION, tiny_answerer

QUESTIONS = ["how was it", "", "who is naïve", "what is it " * 20]
CONTEXTS = [
    "the river was cold",
    "the film was long and the story was " * 9 + "lovely!",
    "naïve 你好 👍 the Café was\u00a0warm.",
    "a",
]


@pytest.fixture(scope="module", params=[False, True], ids=["always", "or none"])
def task(request, vocabulary):
    return tiny_answerer(vocabulary, max_length=24, no_answer=request.param)


@pytest.fixture(scope="module")
def saved(task, tmp_path_factory):
    return export.saved_model(task, tmp_path_factory.mktemp("saved"))


@pytest.fixture(scope="module")
def file(task, tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "answers.tflite"
    return export.tflite(task, path, input="ids")


@pytest.mark.slow
def test_for_a_gpu_windows_of_all_contexts_have_one_length(task, tmp_path):
    report = export.saved_model(task, tmp_path, target="gpu")
    found = export.load(report.path).answer(QUESTIONS, CONTEXTS)
    assert_alike(found, task.answer(QUESTIONS, CONTEXTS))
    cut = task.reader(pad_to_max_length=True).cut(tf.constant(["who"]), tf.constant(["tea"]))
    assert cut.inputs["token_ids"].shape == (1, task.max_length)


def assert_alike(found, wanted):
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours.text, ours.start, ours.end) == (theirs.text, theirs.start, theirs.end)
        assert ours.score == pytest.approx(theirs.score, abs=1e-5)
        assert ours.no_answer_score == pytest.approx(theirs.no_answer_score, abs=1e-5)


def test_both_artifacts_answer_as_the_task(task, saved, file):
    wanted = task.answer(QUESTIONS, CONTEXTS)
    for report in (saved, file):
        assert report.agreement == 1.0 and report.max_difference < 1e-5
        artifact = export.load(report.path)
        assert_alike(artifact.answer(QUESTIONS, CONTEXTS, batch_size=3), wanted)
        assert_alike([artifact.answer(QUESTIONS[0], CONTEXTS[0])], wanted[:1])
        assert artifact.answer([], []) == []
        with pytest.raises(ValueError, match="context 0 is empty"):
            artifact.answer("who", "")


def test_a_saved_model_takes_strings_of_any_batch(task, saved):
    loaded = tf.saved_model.load(str(saved.path))
    served = loaded.signatures["serving_default"]
    found = served(text=tf.constant(QUESTIONS), pair=tf.constant(CONTEXTS))
    assert {name: values.dtype for name, values in found.items()} == {
        "text": tf.string,
        "start": tf.int32,
        "end": tf.int32,
        "score": tf.float32,
        "no_answer_score": tf.float32,
    }
    wanted = task.answer(QUESTIONS, CONTEXTS)
    assert [text.decode() for text in found["text"].numpy()] == [a.text for a in wanted]
    assert found["start"].numpy().tolist() == [answer.start for answer in wanted]
    assert found["end"].numpy().tolist() == [answer.end for answer in wanted]
    nothing = tf.constant([], tf.string)
    for values in served(text=nothing, pair=nothing).values():
        assert values.shape == (0,)
    empty = served(text=tf.constant(["who", "who"]), pair=tf.constant(["", "tea"]))
    assert empty["text"].numpy()[0] == b"" and empty["no_answer_score"].numpy()[0] == 1


def test_a_saved_model_takes_windows(task, saved):
    loaded = tf.saved_model.load(str(saved.path))
    cut = task.reader().cut(tf.constant(QUESTIONS), tf.constant(CONTEXTS))
    found = loaded.signatures["token_ids"](**cut.inputs)
    for name, values in task.answers(cut.inputs).items():
        np.testing.assert_allclose(found[name].numpy(), values.numpy(), atol=1e-5)


def test_a_file_has_builtin_operations_only(task, file):
    interpreter = Interpreter(model_path=str(file.path))  # Flex would fail here
    inputs, _ = export.load(file.path).graph.describe_signatures()["serving_default"]
    assert inputs["can_answer"] == "bool[1, 24]"
    interpreter.allocate_tensors()


def test_a_file_cannot_take_text(task, tmp_path):
    with pytest.raises(ValueError, match='raw text into a QuestionAnswerer.*input="ids"'):
        export.tflite(task, tmp_path / "answers.tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("quantize", ["float16", "int8"])
def test_smaller_weights(task, tmp_path, quantize):
    path = tmp_path / "answers.tflite"
    report = export.tflite(task, path, quantize, input="ids", min_agreement=0.5)
    assert 1e-6 < report.max_difference < 0.3


def test_shorter_windows_and_bfloat16(task, tmp_path):
    report = export.saved_model(
        task, tmp_path, precision="bfloat16", max_length=16, min_agreement=0.5
    )
    assert export.load(report.path).metadata["max_length"] == 16


def test_another_model_does_not_pass_for_it(task, saved, vocabulary):
    other = tiny_answerer(vocabulary, max_length=24, no_answer=task.no_answer)
    other.head.set_weights([-weight for weight in task.head.get_weights()])
    with pytest.raises(export.VerificationError, match="answer of its task"):
        export.verify(other, saved.path, examples=list(zip(QUESTIONS, CONTEXTS, strict=True)))
    shorter = tiny_answerer(vocabulary, max_length=24, max_answer=2, no_answer=task.no_answer)
    with pytest.raises(export.VerificationError, match="max_answer"):
        export.verify(shorter, saved.path)


def test_wrong_texts_of_right_places_are_seen(task):
    answers = task.answers_to(([QUESTION], ["the river was cold"]))
    assert task.disagreement(answers, answers).tolist() == [0]
    wrong = {**answers, "text": np.array([b"tea"], object)}
    assert task.disagreement(answers, wrong).tolist() == [1]
