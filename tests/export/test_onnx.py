"""ONNX files in onnxruntime and OpenVINO: the answers of the task, for any batch and length."""

import json
import subprocess
import sys

import numpy as np
import pytest

from lingxi import export
from lingxi.tasks import MaskedLanguageModel, MultiTask, TextEmbedder
from tests.conftest import ROOT
from tests.export.conftest import PAIRS, TEXTS, matrix, module, names
from tests.tasks.questions import tiny_answerer
from tests.tasks.test_token_classifier import new_task

for package in ("onnx", "onnxruntime", "tf2onnx"):
    pytest.importorskip(package, reason="needs the extra `onnx`")

ALONE = """
import sys
heavy = "tensorflow tensorflow_text keras jax torch onnx tf2onnx ai_edge_litert".split()
for name in heavy:
    sys.modules[name] = None  # an import of it fails
import json, lingxi
answers = lingxi.export.load(sys.argv[1]).classify(json.loads(sys.argv[2]))
print(json.dumps([list(answer.probabilities.values()) for answer in answers]))
"""


@pytest.fixture(scope="module")
def report(classifier, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "comments.onnx"
    return export.onnx(classifier, path, examples=TEXTS, card={"training_data": "toys"})


@pytest.fixture
def task(request, new_classifier, vocabulary):
    """A task of each kind."""
    parts = new_classifier()
    if request.param == "tagger":
        return new_task(parts.tokenizer, crf=True)
    if request.param == "answerer":
        return tiny_answerer(vocabulary, max_length=24, no_answer=True)
    kind = {"embedder": TextEmbedder, "filler": MaskedLanguageModel}[request.param]
    return kind(parts.backbone, parts.tokenizer)


def inputs_of(classifier, texts, padding="longest"):
    return {name: x.numpy() for name, x in classifier.tokenizer(texts, padding=padding).items()}


def test_the_file_gives_the_answers_of_keras(report, classifier):
    assert report.format == "ONNX" and report.agreement == 1 and report.max_difference < 1e-5
    artifact = export.load(report.path)
    for texts in (TEXTS, TEXTS[:1], []):
        found, wanted = artifact.classify(texts), classifier.classify(texts)
        assert [answer.label for answer in found] == [answer.label for answer in wanted]
        if texts:
            np.testing.assert_allclose(matrix(found), matrix(wanted), atol=1e-5)
    assert export.verify(classifier, report.path).agreement == 1
    assert artifact.metadata["card"]["training_data"] == "toys"
    assert artifact.metadata["card"]["verification"]["format"] == "ONNX"


def test_onnxruntime_takes_any_batch_and_length(report, classifier):
    import onnxruntime

    session = onnxruntime.InferenceSession(report.path)
    assert {spec.name: (spec.type, spec.shape) for spec in session.get_inputs()} == {
        "token_ids": ("tensor(int32)", ["batch", "sequence"]),
        "segment_ids": ("tensor(int32)", ["batch", "sequence"]),
        "padding_mask": ("tensor(bool)", ["batch", "sequence"]),
    }
    wanted = matrix(classifier.classify(TEXTS))
    for padding in ("longest", "max_length"):
        for rows in (slice(1), slice(2, 5), slice(None)):
            inputs = inputs_of(classifier, TEXTS[rows], padding)
            (found,) = session.run(["probabilities"], inputs)
            np.testing.assert_allclose(found, wanted[rows], atol=1e-5)


def test_the_file_is_plain_onnx(report, tmp_path):
    import onnx
    import onnxruntime

    model = onnx.load(report.path)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}, "custom operators"
    onnx.save(model, tmp_path / "again.onnx")
    onnxruntime.InferenceSession(tmp_path / "again.onnx")


@pytest.fixture
def openvino():
    return pytest.importorskip("openvino", reason="needs the extra `openvino`")


def test_openvino_gives_the_same_answers(openvino, report, classifier):
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(report.path, "CPU", precise)
    for texts in (TEXTS, TEXTS[2:3]):
        found = model(inputs_of(classifier, texts))["probabilities"]
        np.testing.assert_allclose(found, matrix(classifier.classify(texts)), atol=1e-5)


def test_it_is_loaded_without_tensorflow(report, classifier):
    command = [sys.executable, "-c", ALONE, str(report.path), json.dumps(TEXTS)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    np.testing.assert_allclose(found, matrix(classifier.classify(TEXTS)), atol=1e-5)


@pytest.mark.parametrize("task", ["embedder", "filler", "answerer", "tagger"], indirect=True)
def test_every_reader_of_texts_is_exported(task, tmp_path):
    report = export.onnx(task, tmp_path / "task.onnx")
    assert report.agreement == 1 and report.max_difference < 1e-4


def test_pairs_are_taken(classifier, tmp_path):
    report = export.onnx(classifier, tmp_path / "pairs.onnx", pairs=True, examples=PAIRS)
    found = export.load(report.path).classify(PAIRS)
    np.testing.assert_allclose(matrix(found), matrix(classifier.classify(PAIRS)), atol=1e-5)
    with pytest.raises(ValueError, match="was exported for pairs"):
        export.load(report.path).classify(TEXTS)


def test_a_changed_file_is_refused(report, tmp_path):
    content = bytearray(report.path.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "changed.onnx").write_bytes(content)
    with pytest.raises(ValueError, match="is damaged or was changed"):
        export.load(tmp_path / "changed.onnx")


def test_a_file_that_answers_otherwise_is_not_written(
    classifier, contrary, report, tmp_path, monkeypatch
):
    writer = module("onnx")
    convert = writer._converted
    monkeypatch.setattr(writer, "_converted", lambda task: convert(contrary))
    with pytest.raises(export.VerificationError, match="Nothing was written"):
        export.onnx(classifier, tmp_path / "comments.onnx")
    assert names(tmp_path) == []


def test_what_onnx_cannot_hold_is_refused(classifier, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"path must end in \.onnx, got"):
        export.onnx(classifier, tmp_path / "comments.tflite")
    with pytest.raises(ValueError, match="got a MultiTask. Pass one task of"):
        export.onnx(MultiTask({"mood": classifier}), tmp_path / "multi.onnx")
    monkeypatch.setattr(module("onnx"), "LARGEST", 1000)
    with pytest.raises(ValueError, match="holds less than 2 GiB"):
        export.onnx(classifier, tmp_path / "large.onnx")
    assert names(tmp_path) == []


def test_without_the_extra_the_error_names_it(classifier, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'lingxi\[onnx\]'"):
        export.onnx(classifier, tmp_path / "comments.onnx")
    assert names(tmp_path) == []
