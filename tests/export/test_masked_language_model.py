"""Artifacts of a `MaskedLanguageModel`: texts with masks to the fillings of the task."""

import numpy as np
import pytest
import tensorflow as tf

from lingxi import export
from lingxi.tasks import MaskedLanguageModel
from tests.export.conftest import module
from tests.tasks.roberta import roberta_classifier

FORMATS = {
    "saved_model": ("saved_model", {}),
    "tflite_ids": ("tflite", {"input": "ids"}),
}
TEXTS = [
    "the [MASK] was good",
    "[MASK]",
    "École naïve [MASK] 你好 👍",
    "[MASK] [MASK]ing, [MASK]!" + " the" * 50,
    "[MASK]" * 8,
]


@pytest.fixture(scope="module")
def task(new_classifier):
    """Do not change it."""
    parts = new_classifier()
    return MaskedLanguageModel(parts.backbone, parts.tokenizer, next_sentence=True)


@pytest.fixture(scope="module")
def path_of(tmp_path_factory):
    """A function: the path of an artifact of a task."""

    def make(task, form, **options):
        path = tmp_path_factory.mktemp("masked") / "masked"
        function, defaults = FORMATS[form]
        if function == "tflite":
            path = path.with_suffix(".tflite")
        return getattr(export, function)(task, path, **(defaults | options)).path

    return make


@pytest.fixture(scope="module", params=FORMATS)
def path(request, task, path_of):
    return path_of(task, request.param)


def assert_same(found, wanted):
    for mine, other in zip(found, wanted, strict=True):
        assert len(mine) == len(other)
        for ours, theirs in zip(mine, other, strict=True):
            scores = [f.score for f in ours], [f.score for f in theirs]
            np.testing.assert_allclose(*scores, atol=1e-5)
            near = np.diff(scores[1], prepend=2.0) > -1e-5  # of equal ones either may be first
            for a, b, is_near, next_near in zip(ours, theirs, near, [*near[1:], True], strict=True):
                assert (a.token, a.text) == (b.token, b.text) or is_near or next_near


def test_texts_give_the_fillings_of_the_task(path, task):
    artifact = export.load(path)
    assert_same(artifact.fill(TEXTS), task.fill(TEXTS))
    assert_same([artifact.fill(TEXTS[0], top_k=20)], [task.fill(TEXTS[0], top_k=20)])
    assert artifact.fill([]) == []


def test_bad_texts_are_named(path):
    artifact = export.load(path)
    with pytest.raises(ValueError, match="has 0 masks"):
        artifact.fill(["the film"])
    with pytest.raises(ValueError, match="only 0 of its 1 masks are within max_length"):
        artifact.fill(["the " * 50 + "[MASK]"])


def test_verification_compares_numbers(path, task):
    report = module("verification").verify(task, path)
    assert report.agreement == 1.0
    assert 0.0 <= report.max_difference < 1e-5


def test_an_artifact_of_other_weights_fails_verification(task, new_classifier, path_of):
    parts = new_classifier()
    other = MaskedLanguageModel(parts.backbone, parts.tokenizer, next_sentence=True)
    other.set_weights(task.get_weights())
    bias = np.zeros(other.output_bias.shape, "float32")
    bias[10] = 9.0
    other.output_bias.assign(bias)
    with pytest.raises(export.VerificationError, match="the answer of its task for"):
        export.verify(other, path_of(task, "tflite_ids"))


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("tflite_ids", {"quantize": "int8"}),
        ("saved_model", {"precision": "bfloat16"}),
        ("saved_model", {"precision": "int8_weights"}),
    ],
)
def test_fewer_bits(task, path_of, form, options):
    artifact = export.load(path_of(task, form, min_agreement=0.0, **options))
    found, wanted = artifact.fill(TEXTS[0])[0], task.fill(TEXTS[0])[0]
    np.testing.assert_allclose([f.score for f in found], [f.score for f in wanted], rtol=0.2)


def test_roberta(path_of):
    parts = roberta_classifier()
    task = MaskedLanguageModel(parts.backbone, parts.tokenizer)
    texts = ["the <mask> was", "<mask>"]
    for form in FORMATS:
        artifact = export.load(path_of(task, form))
        assert_same(artifact.fill(texts), task.fill(texts))


def test_tflite_takes_no_text(task, tmp_path):
    with pytest.raises(ValueError, match='pass input="ids"'):
        export.tflite(task, tmp_path / "masked.tflite")


def test_a_server_needs_only_the_text(task, path_of):
    served = tf.saved_model.load(str(path_of(task, "saved_model")))
    found = served.signatures["serving_default"](text=tf.constant(["the [MASK] was"]))
    assert found["count"].numpy().tolist() == [1]
    (wanted,) = task.fill("the [MASK] was")
    tokens = [token.decode().strip() for token in found["tokens"].numpy()[0, 0, :5]]
    assert tokens == [filling.token for filling in wanted]
