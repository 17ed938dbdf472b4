"""`lingxi.export.tflite`: one file that the LiteRT interpreter runs, text or ids in."""

import json
import math
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, InterpreterWithCustomOps
from tensorflow_text import tflite_registrar

from lingxi import export
from tests.export.conftest import LABELS, PAIRS, TEXTS, matrix, names

QUANTIZATIONS = [None, "float16", "int8"]
INPUTS = ["text", "ids"]
TOKENIZER_OPERATIONS = {"FastBertNormalize", "FastWordpieceTokenizeWithOffsets"}

PHONE = """
import json, sys
sys.modules["lingxi"] = None  # an import of it would fail
from ai_edge_litert.interpreter import InterpreterWithCustomOps
from tensorflow_text import tflite_registrar
import numpy as np
interpreter = InterpreterWithCustomOps(
    model_path=sys.argv[1], custom_op_registerers=tflite_registrar.SELECT_TFTEXT_OPS
)
run = interpreter.get_signature_runner("serving_default")
rows = [run(text=np.array([text.encode()], object)) for text in json.loads(sys.argv[2])]
print(json.dumps({
    "label": [row["label"][0].decode() for row in rows],
    "score": [float(row["score"][0]) for row in rows],
    "probabilities": [row["probabilities"][0].tolist() for row in rows],
}))
"""


@pytest.fixture(scope="module")
def file(exported):
    """A function: the path of a TFLite file of `classifier`."""

    def make(quantize=None, input="text", **options):
        if quantize is not None:
            options["quantize"] = quantize
        return exported("tflite", input=input, **options)[0]

    return make


def text_runner(path):
    return InterpreterWithCustomOps(
        model_path=str(path), custom_op_registerers=tflite_registrar.SELECT_TFTEXT_OPS
    ).get_signature_runner("serving_default")


def as_bytes(text):
    return np.array([text.encode()], object)


def read_flatbuffer(path):
    return schema.ModelT.InitFromPackedBuf(path.read_bytes())


def constants(model):
    """(shape, type) of each tensor with stored values, the large ones only."""
    found = []
    for tensor in model.subgraphs[0].tensors:
        if model.buffers[tensor.buffer].data is not None and math.prod(tensor.shape) > 1000:
            found.append((tuple(tensor.shape), tensor.type))
    return found


def max_difference(path, task, texts):
    return np.abs(matrix(export.load(path).classify(texts)) - matrix(task.classify(texts))).max()


def test_text_in_answers_out(file, classifier):
    run = text_runner(file())
    for text, expected in zip(TEXTS, classifier.classify(TEXTS), strict=True):
        outputs = run(text=as_bytes(text))
        assert set(outputs) == {"label", "score", "probabilities"}
        assert [label.decode() for label in outputs["label"]] == [expected.label]
        np.testing.assert_allclose(outputs["score"], [expected.score], atol=1e-5)
        np.testing.assert_allclose(outputs["probabilities"], matrix([expected]), atol=1e-5)


def test_ids_in_answers_out(file, classifier):
    run = Interpreter(model_path=str(file(input="ids"))).get_signature_runner("serving_default")
    for text, expected in zip(TEXTS, classifier.classify(TEXTS), strict=True):
        inputs = classifier.tokenizer([text], padding="max_length")
        outputs = run(**{name: values.numpy() for name, values in inputs.items()})
        assert set(outputs) == {"label_id", "score", "probabilities"}
        assert outputs["label_id"].tolist() == [LABELS.index(expected.label)]
        np.testing.assert_allclose(outputs["score"], [expected.score], atol=1e-5)
        np.testing.assert_allclose(outputs["probabilities"], matrix([expected]), atol=1e-5)


@pytest.mark.parametrize("input", INPUTS)
@pytest.mark.parametrize(("quantize", "tolerance"), [(None, 1e-5), ("float16", 1e-2)])
def test_floats_give_the_probabilities_of_the_task(file, classifier, quantize, input, tolerance):
    assert max_difference(file(quantize, input), classifier, TEXTS) < tolerance


@pytest.mark.parametrize("input", INPUTS)
def test_int8_keeps_the_labels_of_a_trained_task(exported, classifier, toy, input):
    path, report = exported("tflite", quantize="int8", input=input)
    assert report.precision == "int8"
    assert report.max_difference > 1e-6  # it is quantized
    assert report.label_agreement >= 0.9
    assert [answer.label for answer in export.load(path).classify(toy[0])] == toy[1]


def test_quantization_shrinks_the_file(file, classifier):
    """By two and three of the four bytes of each weight."""
    float32, float16, int8 = (file(q, "ids").stat().st_size for q in QUANTIZATIONS)
    num_weights = classifier.count_params()
    assert float32 - float16 == pytest.approx(2 * num_weights, rel=0.05)
    assert float32 - int8 == pytest.approx(3 * num_weights, rel=0.05)
    text32, text16, text8 = (file(q, "text").stat().st_size for q in QUANTIZATIONS)
    assert text32 > text16 > text8


@pytest.mark.parametrize("input", INPUTS)
def test_both_embedding_tables_are_int8_in_an_int8_file(file, classifier, input):
    weights = [
        entry
        for entry in constants(read_flatbuffer(file("int8", input)))
        if len(entry[0]) > 1  # not the tokenizer's models
    ]
    for shape in [(classifier.tokenizer.vocab_size, 128), (32, 128)]:
        assert (shape, schema.TensorType.INT8) in weights
    assert {kind for _, kind in weights} == {schema.TensorType.INT8}


@pytest.mark.parametrize("quantize", QUANTIZATIONS)
@pytest.mark.parametrize(("input", "custom"), [("text", TOKENIZER_OPERATIONS), ("ids", set())])
def test_only_the_tokenizer_needs_operations_that_are_not_builtin(file, quantize, input, custom):
    codes = read_flatbuffer(file(quantize, input)).operatorCodes
    custom_codes = [code for code in codes if code.builtinCode == schema.BuiltinOperator.CUSTOM]
    assert {code.customCode.decode() for code in custom_codes} == custom
    assert not any(code.customCode for code in codes if code not in custom_codes)
    assert len(codes) > 10


@pytest.mark.slow
def test_a_process_with_the_interpreter_alone_runs_it(file, classifier, tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", PHONE, file("int8"), json.dumps(TEXTS[:5])],
        capture_output=True,
        timeout=120,
        text=True,
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    expected = export.load(file("int8")).classify(TEXTS[:5])
    assert found["label"] == [answer.label for answer in expected]
    np.testing.assert_allclose(found["score"], [a.score for a in expected], atol=1e-6)
    np.testing.assert_allclose(found["probabilities"], matrix(expected), atol=1e-6)


@pytest.mark.parametrize("input", INPUTS)
def test_the_file_is_also_an_archive(file, classifier, input):
    path = file(input=input)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        metadata = json.loads(archive.read("lingxi.json"))
        assert metadata.pop("card")["architecture"] == "Bert"
        assert "model" in metadata.pop("sha256")
        packed = archive.namelist()
        if input == "ids":
            vocabulary = archive.read("vocab.txt").decode().splitlines()
            assert vocabulary == classifier.tokenizer.vocabulary
    kernels = ["AddFastBertNormalize", "AddFastWordpieceTokenize"]
    assert metadata == {
        "task": "TextClassifier",
        "labels": list(LABELS),
        "multi_label": False,
        "quantize": None,
        "input": input,
        "pairs": False,
        "max_length": 32,
        "batch_size": 1,
        **({"kernels": kernels} if input == "text" else {}),
    }
    assert ("vocab.txt" in packed) == (input == "ids")
    assert path.read_bytes()[4:8] == b"TFL3"


@pytest.mark.parametrize("input", INPUTS)
def test_pairs_get_the_answers_of_the_task(file, classifier, input):
    path = file(input=input, pairs=True)
    assert max_difference(path, classifier, PAIRS) < 1e-5
    swapped = [(second, first) for first, second in PAIRS]
    assert max_difference(path, classifier, swapped) < 1e-5
    assert np.abs(matrix(classifier.classify(PAIRS)) - matrix(classifier.classify(swapped))).max()


def test_pairs_are_two_inputs(file, classifier):
    run = text_runner(file(pairs=True))
    outputs = run(text=as_bytes(PAIRS[0][0]), pair=as_bytes(PAIRS[0][1]))
    (expected,) = classifier.classify(PAIRS[:1])
    assert outputs["label"][0].decode() == expected.label
    np.testing.assert_allclose(outputs["probabilities"], matrix([expected]), atol=1e-5)


@pytest.mark.parametrize("input", INPUTS)
def test_a_shorter_max_length_cuts_the_texts(exported, classifier, input):
    path, report = exported("tflite", input=input, max_length=5)
    long = ["the film was good but the actor was awful", "not " * 20 + "good"]
    found = matrix(export.load(path).classify(long))
    cut = classifier.answers(classifier.tokenizer(long, max_length=5))["probabilities"].numpy()
    np.testing.assert_allclose(found, cut, atol=1e-5)
    assert np.abs(cut - matrix(classifier.classify(long))).max() > 1e-3
    if input == "ids":
        assert report.signatures["serving_default"][0]["token_ids"] == "int32[1, 5]"


# Several lengths


LENGTHS = (8, 16, 32)


@pytest.mark.parametrize("input", INPUTS)
def test_the_shortest_length_that_holds_a_text_runs(exported, classifier, input):
    path, _ = exported("tflite", input=input, lengths=LENGTHS)
    artifact = export.load(path)
    found, runner = [], artifact.graph.runner
    artifact.graph.runner = lambda name: (found.append(name), runner(name))[1]
    texts = ["good " * count for count in (1, 6, 7, 14, 15, 40)]  # and [CLS] and [SEP]
    answers = matrix(artifact.classify(texts))
    lengths = ["length_8"] * 2 + ["length_16"] * 2 + ["serving_default"] * 2
    assert [name for name in found if name != "num_tokens"] == lengths
    np.testing.assert_allclose(answers, matrix(classifier.classify(texts)), atol=1e-5)


@pytest.mark.parametrize("input", INPUTS)
def test_lengths_are_signatures(exported, classifier, input):
    path, report = exported("tflite", input=input, lengths=LENGTHS)
    wanted = {"length_8", "length_16", "serving_default"}
    assert set(report.signatures) == wanted | ({"num_tokens"} if input == "text" else set())
    assert max_difference(path, classifier, TEXTS) < 1e-5
    if input == "ids":
        assert report.signatures["length_8"][0]["token_ids"] == "int32[1, 8]"
        assert report.signatures["serving_default"][0]["token_ids"] == "int32[1, 32]"
    if input == "text":
        assert text_runner(path) is not None  # the longest, for those who know of no lengths
        count = InterpreterWithCustomOps(
            model_path=str(path), custom_op_registerers=tflite_registrar.SELECT_TFTEXT_OPS
        ).get_signature_runner("num_tokens")
        assert count(text=as_bytes("a good film"))["num_tokens"].tolist() == [5]


@pytest.mark.parametrize("quantize", [None, "int8", "int4"])
def test_lengths_share_the_weights(exported, classifier, quantize):
    """A second copy would add all of them; the graph, and rows of positions, are added."""
    options = {} if quantize is None else {"quantize": quantize, "min_agreement": 0}
    one = exported("tflite", input="ids", **options)[1].size
    three = exported("tflite", input="ids", lengths=LENGTHS, **options)[1].size
    bytes_of_weights = classifier.count_params() * {None: 4, "int8": 1, "int4": 0.5}[quantize]
    assert three - one < 0.25 * bytes_of_weights + 40_000


@pytest.mark.parametrize("input", INPUTS)
@pytest.mark.parametrize("batch_size", [None, 4])
def test_several_texts_a_call(exported, classifier, input, batch_size):
    path, report = exported("tflite", input=input, batch_size=batch_size)
    inputs, _ = report.signatures["serving_default"]
    assert all(f"[{batch_size or -1}" in spec for spec in inputs.values())
    artifact = export.load(path)
    sizes, runner = [], artifact.graph.runner
    artifact.graph.runner = lambda name: (
        lambda **inputs: (
            sizes.append(len(next(iter(inputs.values())))),
            runner(name)(**inputs),
        )[1]
    )
    for count in (1, 9):
        np.testing.assert_allclose(
            matrix(artifact.classify(TEXTS[:count])),
            matrix(classifier.classify(TEXTS[:count])),
            atol=1e-5,
        )
    assert sizes == ([1, 9] if batch_size is None else [4, 4, 4, 4])


@pytest.mark.parametrize("input", INPUTS)
def test_the_longest_text_of_a_call_chooses_the_length(exported, classifier, input):
    path, _ = exported("tflite", input=input, lengths=LENGTHS, batch_size=2)
    texts = ["good", "good " * 5, "good", "good " * 10, "good"]
    found = matrix(export.load(path).classify(texts))
    np.testing.assert_allclose(found, matrix(classifier.classify(texts)), atol=1e-5)


def test_a_multi_label_task(tiny_classifier, tmp_path):
    task = tiny_classifier(("a", "b", "c"), multi_label=True)
    report = export.tflite(task, tmp_path / "model.tflite")
    found, expected = export.load(report.path).classify(TEXTS), task.classify(TEXTS)
    assert [answer.labels for answer in found] == [answer.labels for answer in expected]
    np.testing.assert_allclose(matrix(found), matrix(expected), atol=1e-5)
    assert np.abs(matrix(found).sum(axis=-1) - 1).max() > 0.05  # no softmax


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.tflite", {"quantize": "int2"}, "quantize must be one of .*got 'int2'"),
        ("a.tflite", {"lengths": [8, 33]}, "from 3 to 32 .*got 33"),
        ("a.tflite", {"lengths": []}, "at least one number of tokens"),
        ("a.tflite", {"lengths": [8], "max_length": 16}, "in place of max_length"),
        ("a.tflite", {"batch_size": 0}, "number of texts, or None for any number; got 0"),
        ("a.tflite", {"input": "mediapipe", "batch_size": 2}, "one text a call"),
        ("a.tflite", {"input": "strings"}, "input must be one of .*got 'strings'"),
        ("a.tflite", {"max_length": 33}, "from 3 to 32 .*got 33"),
        ("a.tflite", {"max_length": 2}, "from 3 to 32 .*got 2"),
        ("a.tfl", {}, r"must end in \.tflite, got '.*a\.tfl'"),
        ("tflite", {}, r"must end in \.tflite"),
    ],
)
def test_bad_arguments_are_refused(classifier, tmp_path, name, options, message):
    with pytest.raises(ValueError, match=message):
        export.tflite(classifier, tmp_path / name, **options)
    assert names(tmp_path) == []


def test_a_directory_is_not_replaced_by_a_file(classifier, tmp_path):
    target = tmp_path / "model.tflite"
    target.mkdir()
    (target / "precious.txt").touch()
    with pytest.raises(IsADirectoryError, match=str(target)):
        export.tflite(classifier, target)
    assert names(target) == ["precious.txt"]
