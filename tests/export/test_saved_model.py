"""`lingxi.export.saved_model`: raw strings in, answers out, in any TensorFlow process."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the tokenizer's operations
from tensorflow.core.protobuf import saved_model_pb2

from lingxi import export
from lingxi.export.components import sizes
from lingxi.training import add_lora
from tests.export.conftest import LABELS, PAIRS, TEXTS, matrix, module, names

SERVER = """
import json, sys
sys.modules["lingxi"] = None  # an import of it would fail
import tensorflow as tf, tensorflow_text
before = set(sys.modules)
served = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
outputs = served(text=tf.constant(json.loads(sys.argv[2])))
new = {name.split(".")[0] for name in set(sys.modules) - before}
answers = {name: values.numpy().tolist() for name, values in outputs.items() if name != "label"}
answers["label"] = [label.decode() for label in outputs["label"].numpy()]
answers["imported"] = sorted(new & {"keras", "tf_keras", "lingxi"})
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def path(exported):
    return exported("saved_model")[0]


@pytest.fixture(scope="module")
def signatures(path):
    loaded = tf.saved_model.load(str(path))
    yield loaded.signatures  # `loaded` stays alive with this frame


def answered(outputs):
    """(labels, scores, probabilities) of what a signature returned."""
    assert set(outputs) == {"label", "score", "probabilities"}
    labels = [label.decode() for label in outputs["label"].numpy()]
    return labels, outputs["score"].numpy(), outputs["probabilities"].numpy()


def assert_equal_to_task(outputs, expected):
    labels, scores, probabilities = answered(outputs)
    assert labels == [answer.label for answer in expected]
    np.testing.assert_allclose(scores, [answer.score for answer in expected], atol=1e-5)
    np.testing.assert_allclose(probabilities, matrix(expected), atol=1e-5)


def facts(path):
    return json.loads((path / "assets.extra" / "lingxi.json").read_text("utf-8"))


def functions(path):
    """The functions of a SavedModel, `FunctionDef`s."""
    content = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    return content.meta_graphs[0].graph_def.library.function


@pytest.mark.parametrize("batch", [1, 3, 17])
def test_strings_of_any_batch_get_the_answers_of_the_task(signatures, classifier, batch):
    texts = (TEXTS * 2)[:batch]
    outputs = signatures["serving_default"](text=tf.constant(texts))
    assert_equal_to_task(outputs, classifier.classify(texts))


def test_an_empty_batch_is_answered(signatures):
    outputs = signatures["serving_default"](text=tf.constant([], tf.string))
    labels, scores, probabilities = answered(outputs)
    assert labels == []
    assert scores.shape == (0,)
    assert probabilities.shape == (0, len(LABELS))


def test_every_label_is_given_as_its_unicode_string(signatures):
    outputs = signatures["serving_default"](text=tf.constant(["a lovely film", "awful"]))
    assert answered(outputs)[0] == [LABELS[1], LABELS[0]]


@pytest.mark.parametrize("padding", ["longest", "max_length"])
def test_token_ids_get_the_same_answers_as_strings(signatures, classifier, padding):
    texts = [text for text in TEXTS if len(text) < 100]
    inputs = classifier.tokenizer(texts, padding=padding)
    assert_equal_to_task(signatures["token_ids"](**inputs), classifier.classify(texts))


@pytest.mark.slow
@pytest.mark.parametrize("target", [None, "cpu", "gpu"])
def test_a_process_with_tensorflow_alone_serves_it(exported, target, classifier, tmp_path):
    path, _ = exported("saved_model", target=target)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-c", SERVER, path, json.dumps(TEXTS[:5])],
        capture_output=True,
        timeout=120,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    expected = classifier.classify(TEXTS[:5])
    assert found["imported"] == []
    assert found["label"] == [answer.label for answer in expected]
    np.testing.assert_allclose(found["probabilities"], matrix(expected), atol=1e-5)
    np.testing.assert_allclose(found["score"], [a.score for a in expected], atol=1e-5)


def test_pairs_are_two_inputs(exported, classifier):
    path, _ = exported("saved_model", pairs=True)
    loaded = tf.saved_model.load(str(path))
    first, second = zip(*PAIRS, strict=True)
    served = loaded.signatures["serving_default"]
    outputs = served(text=tf.constant(first), pair=tf.constant(second))
    assert_equal_to_task(outputs, classifier.classify(PAIRS))
    swapped = served(text=tf.constant(second), pair=tf.constant(first))
    assert np.abs(answered(swapped)[2] - matrix(classifier.classify(PAIRS))).max() > 1e-3


def test_versions_are_numbered(tiny_classifier, tmp_path):
    task, directory = tiny_classifier(), tmp_path / "serving" / "model"
    assert export.saved_model(task, directory, version=4).path == directory / "4"
    for name in ("notes-9", "²", "٩"):
        (directory / name).mkdir()
    assert export.saved_model(task, str(directory)).path == directory / "5"
    assert names(directory) == ["4", "5", "notes-9", "²", "٩"]
    assert export.load(directory).path == directory / "5"
    for version in ("4", "5"):
        assert (directory / version / "saved_model.pb").is_file()


def test_the_first_version_is_1(path):
    assert names(path.parent) == ["1"]


def test_an_existing_version_is_refused_and_kept(tiny_classifier, tmp_path):
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "saved_model.pb").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=f"{tmp_path / '3'} exists"):
        export.saved_model(tiny_classifier(), tmp_path, version=3)
    assert (tmp_path / "3" / "saved_model.pb").read_bytes() == b"precious"
    assert names(tmp_path) == ["3"]


@pytest.mark.parametrize("version", [-1, "latest", 1.7, 2.0])
def test_a_version_is_a_whole_number(tiny_classifier, tmp_path, version):
    with pytest.raises(ValueError, match="version must be a whole number, 0 or more, got"):
        export.saved_model(tiny_classifier(), tmp_path, version=version)
    assert names(tmp_path) == []


def test_bfloat16_halves_the_weights_and_keeps_the_labels(exported, classifier, toy):
    large, _ = exported("saved_model")
    path, report = exported("saved_model", precision="bfloat16", examples=tuple(toy[0]))
    assert report.precision == "bfloat16"
    assert report.label_agreement == 1.0
    assert report.num_examples == len(toy[0])
    sizes = [
        (folder / "variables" / "variables.data-00000-of-00001").stat().st_size
        for folder in (large, path)
    ]
    saved = sizes[0] - sizes[1]
    assert saved == pytest.approx(2 * classifier.count_params(), rel=0.05)
    assert [answer.label for answer in export.load(path).classify(toy[0])] == toy[1]


def test_bfloat16_leaves_the_task_as_it_was(tiny_classifier, tmp_path):
    task = tiny_classifier()  # untrained: nobody knows how many labels will agree
    before = matrix(task.classify(TEXTS))
    report = export.saved_model(task, tmp_path, precision="bfloat16", min_agreement=0)
    assert 1e-6 < report.max_difference < 0.05  # it does compute in bfloat16
    assert task.backbone.compute_dtype == "float32"
    np.testing.assert_array_equal(matrix(task.classify(TEXTS)), before)


VARIANTS = {  # of the argument `target` and `precision`: largest difference, share of the size
    ("float32", "cpu"): (1e-5, 1.0),
    ("float32", "gpu"): (1e-5, 1.0),
    ("int8_weights", None): (0.05, 0.3),
    ("int8_weights", "cpu"): (0.05, 0.3),
    ("int8_weights", "gpu"): (0.05, 0.3),
    ("bfloat16", "cpu"): (0.05, 0.55),
    ("bfloat16", "gpu"): (0.05, 0.55),
}


@pytest.mark.parametrize(("precision", "target"), VARIANTS)
def test_each_variant_gives_the_answers_of_the_task(exported, classifier, toy, precision, target):
    options = {} if precision == "float32" else {"examples": tuple(toy[0])}
    path, report = exported("saved_model", precision=precision, target=target, **options)
    difference, share = VARIANTS[precision, target]
    assert (report.precision, report.target) == (precision, target)
    assert str(report).startswith(f"SavedModel {precision}" + (f" for {target}" if target else ""))
    assert report.agreement == 1.0 and report.max_difference < difference
    assert [answer.label for answer in export.load(path).classify(toy[0])] == toy[1]
    graph, weights = sizes(path), 4 * classifier.count_params()
    assert graph["embeddings"] + graph["layers"] == pytest.approx(share * weights, rel=0.15)
    assert {"precision": precision, "target": target}.items() <= facts(path).items()


def test_for_a_cpu_all_weights_are_constants_of_one_function(exported, classifier):
    path, _ = exported("saved_model", target="cpu")
    assert (path / "variables" / "variables.data-00000-of-00001").stat().st_size < 1000
    holders = [
        function
        for function in functions(path)
        if any(
            node.attr["value"].tensor.ByteSize() > 1e4
            and node.attr["dtype"].type == tf.float32.as_datatype_enum
            for node in function.node_def
        )
    ]
    (constants,) = holders
    assert len(constants.signature.output_arg) == len(classifier.weights)
    assert not [n.op for f in functions(path) for n in f.node_def if n.op == "ReadVariableOp"]


def test_for_a_gpu_xla_compiles_what_takes_token_ids(exported):
    path, _ = exported("saved_model", target="gpu")
    compiled = [f for f in functions(path) if f.attr["_XlaMustCompile"].b]
    (answers,) = compiled
    assert "MatMul" in {node.op for node in answers.node_def}
    dtypes = {tf.dtypes.as_dtype(argument.type) for argument in answers.signature.input_arg}
    assert tf.string not in dtypes


def test_int8_rows_of_the_table_are_what_is_looked_up(exported, classifier, toy):
    path, _ = exported("saved_model", precision="int8_weights", examples=tuple(toy[0]))
    weights = tf.saved_model.load(str(path)).weights
    vocab_size = classifier.backbone.config.vocab_size
    assert [w.dtype for w in weights if w.shape[0] == vocab_size] == [tf.int8, tf.float32]
    gathered = [
        node.attr["Tparams"].type or node.attr["dtype"].type
        for function in functions(path)
        for node in function.node_def
        if node.op in ("GatherV2", "ResourceGather")
    ]
    assert tf.int8.as_datatype_enum in gathered


def test_weights_too_large_for_a_graph_are_refused(tiny_classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(module("stored_weights"), "MAX_GRAPH", 1000)
    with pytest.raises(ValueError, match="in the graph, which holds .*Choose target=None"):
        export.saved_model(tiny_classifier(), tmp_path / "model", target="cpu")
    assert names(tmp_path) == []


def test_what_xla_cannot_compile_is_refused(tiny_classifier, tmp_path, monkeypatch):
    task = tiny_classifier()
    inside = task.answers

    def with_strings(inputs):
        lengths = tf.strings.length(tf.strings.as_string(inputs["token_ids"]))
        answers = inside(inputs)
        return answers | {"score": answers["score"] + tf.cast(lengths[:, 0] * 0, tf.float32)}

    monkeypatch.setattr(task, "answers", with_strings)
    with pytest.raises(
        ValueError, match="XLA cannot compile this TextClassifier: .*AsString.*None"
    ):
        export.saved_model(task, tmp_path / "model", target="gpu")
    assert names(tmp_path) == []


def test_int8_weights_of_a_lora_are_refused(tiny_classifier, tmp_path):
    task = tiny_classifier()
    add_lora(task, rank=2)
    with pytest.raises(ValueError, match="merge_lora.task. before it is exported in int8_weights"):
        export.saved_model(task, tmp_path / "model", precision="int8_weights")


def test_a_multi_label_task_has_independent_probabilities(tiny_classifier, tmp_path):
    task = tiny_classifier(("a", "b", "c"), multi_label=True)
    report = export.saved_model(task, tmp_path)
    loaded = tf.saved_model.load(str(report.path))
    outputs = loaded.signatures["serving_default"](text=tf.constant(TEXTS))
    expected = task.classify(TEXTS)
    assert_equal_to_task(outputs, expected)
    assert np.abs(answered(outputs)[2].sum(axis=-1) - 1).max() > 0.05  # no softmax
    found = export.load(report.path).classify(TEXTS)
    assert [answer.labels for answer in found] == [answer.labels for answer in expected]
    assert len({answer.labels for answer in expected}) > 1


def test_a_shorter_max_length_cuts_the_texts(exported, classifier):
    path, _ = exported("saved_model", max_length=5)
    loaded = tf.saved_model.load(str(path))
    long = ["the film was good but the actor was awful", "not " * 20 + "good"]
    outputs = loaded.signatures["serving_default"](text=tf.constant(long))
    cut = classifier.answers(classifier.tokenizer(long, max_length=5))["probabilities"].numpy()
    np.testing.assert_allclose(answered(outputs)[2], cut, atol=1e-5)
    assert np.abs(cut - matrix(classifier.classify(long))).max() > 1e-3
    assert classifier.max_length == 32


def test_what_it_is_lies_beside_it(path):
    metadata = facts(path)
    assert {name: metadata[name] for name in metadata if name not in ("card", "sha256")} == {
        "task": "TextClassifier",
        "labels": list(LABELS),
        "multi_label": False,
        "precision": "float32",
        "target": None,
        "pairs": False,
        "max_length": 32,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "float16"}, "precision must be one of .*bfloat16.*got 'float16'"),
        ({"target": "tpu"}, "target must be one of .*cpu.*got 'tpu'"),
        ({"max_length": 33}, "from 3 to 32 .*got 33"),
        ({"max_length": 2}, "from 3 to 32 .*got 2"),
    ],
)
def test_bad_arguments_are_refused(classifier, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export.saved_model(classifier, tmp_path / "model", **options)
    assert names(tmp_path) == []
