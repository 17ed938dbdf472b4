"""`lingxi.export.tflite` in the number formats of ai-edge-quantizer."""

import math
import sys

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from lingxi import export
from lingxi.training import quantization_aware
from tests.export.conftest import TEXTS, matrix, names

KINDS = schema.TensorType
MIXED = {
    "token_embedding": "int4",
    "*": "int8",
    "intermediate/": None,
    "attention": "float16",
    "embedding|feed_forward/intermediate": "int8_weights",
}
MODES = {mode: mode for mode in ("int8_weights", "int8_static", "int4")} | {"mixed": MIXED}
OPERATORS = {number: name for name, number in vars(schema.BuiltinOperator).items()}


@pytest.fixture(scope="module")
def written(classifier, toy, tmp_path_factory):
    """A function: the report of an export of `classifier` in one of `MODES`."""
    done = {}

    def make(mode, input="text"):
        if (mode, input) not in done:
            path = tmp_path_factory.mktemp("quantized") / f"{mode}.tflite"
            quantize = MODES.get(mode, mode)
            done[mode, input] = export.tflite(classifier, path, quantize, input, examples=toy[0])
        return done[mode, input]

    return make


def weights(path):
    """`{(operator, name of its output): kind}` of all large weights in a file."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    (graph,) = model.subgraphs
    made = {index: operator for operator in graph.operators for index in operator.outputs}
    found = {}
    for operator in graph.operators:
        code = OPERATORS[model.operatorCodes[operator.opcodeIndex].builtinCode]
        if code not in ("EMBEDDING_LOOKUP", "GATHER", "FULLY_CONNECTED"):
            continue
        index = operator.inputs[0 if code == "GATHER" else 1]
        while index in made:  # a DEQUANTIZE
            index = made[index].inputs[0]
        tensor = graph.tensors[index]
        if model.buffers[tensor.buffer].data is not None and math.prod(tensor.shape) >= 1024:
            found[code, graph.tensors[operator.outputs[0]].name.decode()] = tensor.type
    return found


@pytest.mark.parametrize("mode", MODES)
def test_raw_text_gets_the_labels_of_a_trained_task(written, toy, mode):
    report = written(mode)
    assert report.precision == mode
    assert report.max_difference > 1e-6  # it is quantized
    artifact = export.load(report.path)
    assert artifact.metadata["quantize"] == MODES[mode]
    found = [answer.label for answer in artifact.classify(toy[0])]
    assert np.mean([a == b for a, b in zip(found, toy[1], strict=True)]) >= 0.95


@pytest.mark.parametrize(
    ("mode", "kinds"),
    [
        ("int8_weights", {KINDS.INT8}),
        ("int8_static", {KINDS.INT8}),
        ("int4", {KINDS.INT4}),
    ],
)
def test_all_large_weights_are_quantized_tables_too(written, mode, kinds):
    found = weights(written(mode).path)
    assert set(found.values()) == kinds
    tables = [name for operator, name in found if operator == "EMBEDDING_LOOKUP"]
    assert sorted(name.split("/")[2] for name in tables) == [
        "position_embedding",
        "token_embedding",
    ]


def test_files_are_as_small_as_their_weights(written, classifier):
    """Half a byte of each weight less, as the tokenizer is in both."""
    int8, int4 = (written(mode, "ids").size for mode in ("int8_weights", "int4"))
    assert int8 - int4 == pytest.approx(classifier.count_params() / 2, rel=0.05)


def test_weights_in_int8_alone_change_little(written, classifier):
    found = matrix(export.load(written("int8_weights").path).classify(TEXTS))
    assert np.abs(found - matrix(classifier.classify(TEXTS))).max() < 0.05


def test_a_static_file_multiplies_integers(written):
    model = schema.ModelT.InitFromPackedBuf(written("int8_static").path.read_bytes())
    (graph,) = model.subgraphs
    kinds = [
        [graph.tensors[index].type for index in (*operator.inputs[:2], operator.outputs[0])]
        for operator in graph.operators
        if OPERATORS[model.operatorCodes[operator.opcodeIndex].builtinCode]
        in ("FULLY_CONNECTED", "BATCH_MATMUL")
    ]
    assert len(kinds) > 6
    assert all(kind == [KINDS.INT8] * 3 for kind in kinds)


def test_a_mixed_recipe_goes_by_the_names_of_layers(written):
    kinds = {name: kind for (_, name), kind in weights(written("mixed").path).items()}

    def of(part):
        return {kind for name, kind in kinds.items() if part in name}

    assert of("token_embedding") == {KINDS.INT4}
    assert of("position_embedding") == of("feed_forward/output") == of("pooler") == {KINDS.INT8}
    assert of("intermediate") == {KINDS.FLOAT32}
    assert of("block_0/attention") == {KINDS.FLOAT16}


def test_lookups_of_rows_are_exact(classifier, tmp_path):
    """A recipe that quantizes nothing: only the operators of the tables are others."""
    report = export.tflite(classifier, tmp_path / "a.tflite", {"*": None}, "ids", min_agreement=1)
    assert report.max_difference < 1e-5
    assert {operator for operator, _ in weights(report.path)} == {
        "EMBEDDING_LOOKUP",
        "FULLY_CONNECTED",
    }


@pytest.mark.parametrize(
    ("bits", "mode", "tolerance"),
    [(8, "int8_weights", 1e-5), (4, "int4", 0.05)],  # int4 also rounds activations, to 8 bits
)
def test_what_is_learned_in_few_bits_is_what_the_file_gives(
    new_classifier, toy, tmp_path, bits, mode, tolerance
):
    task = new_classifier()
    texts = toy[0][:8]
    plain = matrix(task.classify(texts))
    with quantization_aware(task, bits=bits):
        learned = matrix(task.classify(texts))
    path = tmp_path / "a.tflite"
    export.tflite(task, path, mode, "ids", examples=texts, min_agreement=0)
    found = matrix(export.load(path).classify(texts))
    assert np.abs(found - learned).max() < tolerance
    if bits == 8:
        assert np.abs(plain - learned).max() > 10 * tolerance


@pytest.mark.parametrize(
    ("quantize", "options", "message"),
    [
        ("int2", {}, "quantize must be one of .*'int4', 'int8_static'.*got 'int2'"),
        ({"*": "int2"}, {}, "gives each pattern of layer names one of .*'int2'"),
        ({}, {}, "gives each pattern of layer names one of"),
        ({"(": "int8"}, {}, r"'\(' in quantize is no regular expression"),
        ({"embeding": "int8"}, {}, "'embeding' in quantize fits no layer.*/token_embedding/"),
        ("int8_static", {}, "from examples: pass examples="),
        (
            "int8_static",
            {"lengths": [8, 16], "examples": TEXTS},
            r"takes one length.*lengths=\[8, 16\]",
        ),
    ],
)
def test_what_cannot_be_quantized_so_is_refused(classifier, tmp_path, quantize, options, message):
    with pytest.raises(ValueError, match=message):
        export.tflite(classifier, tmp_path / "a.tflite", quantize, **options)
    assert names(tmp_path) == []


def test_a_missing_extra_is_named(classifier, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer.recipe_manager", None)
    with pytest.raises(ImportError, match=r"pip install \"lingxi\[quantization\]\""):
        export.tflite(classifier, tmp_path / "a.tflite", "int4")
