"""What TensorFlow Serving reads of a SavedModel: requests as its REST API defines them, warm-up."""

import base64
import json
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from lingxi import export
from lingxi.export import serving
from lingxi.tasks import MultiTask, TextGenerator, TextRegressor
from lingxi.text import ByteBpeTokenizer
from lingxi.zoo import Gpt, GptConfig
from tests.export.conftest import LABELS, PAIRS, TEXTS, matrix, names

pytest.importorskip("tensorflow_serving", reason="needs the extra `serving`")


class Rest:
    """The bodies of the REST API (https://www.tensorflow.org/tfx/serving/api_rest), both ways."""

    def __init__(self, path):
        self.model = tf.saved_model.load(str(path))

    def predict(self, body):
        request = json.loads(body)
        signature = self.model.signatures[request.get("signature_name", "serving_default")]
        specs = signature.structured_input_signature[1]
        columns = request.get("inputs")
        if "instances" in request:
            rows = request["instances"]
            if not isinstance(rows[0], dict) or set(rows[0]) == {"b64"}:
                rows = [dict(zip(specs, [row], strict=True)) for row in rows]
            columns = {name: [row[name] for row in rows] for name in specs}
        elif not isinstance(columns, dict):
            columns = dict(zip(specs, [columns], strict=True))
        tensors = {n: tf.constant(decoded(columns[n]), spec.dtype) for n, spec in specs.items()}
        outputs = {name: encoded(values) for name, values in signature(**tensors).items()}
        if "inputs" in request:
            return json.dumps({"outputs": outputs})
        (batch,) = {len(values) for values in outputs.values()}  # or the server refuses rows
        rows = [{name: outputs[name][row] for name in outputs} for row in range(batch)]
        return json.dumps({"predictions": rows})

    def examples(self, method, body):
        """`classify` or `regress`."""
        request, serialized = json.loads(body), []
        for features in request["examples"]:
            example = tf.train.Example()
            for name, text in (request.get("context", {}) | features).items():
                example.features.feature[name].bytes_list.value.append(decoded(text))
            serialized.append(example.SerializeToString())
        outputs = self.model.signatures[method](inputs=tf.constant(serialized))
        if method == "regress":
            return json.dumps({"results": encoded(outputs["outputs"])})
        rows = zip(encoded(outputs["classes"]), encoded(outputs["scores"]), strict=True)
        rows = [[list(pair) for pair in zip(*row, strict=True)] for row in rows]
        return json.dumps({"results": rows})


def decoded(value):
    if isinstance(value, list):
        return [decoded(part) for part in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return value.encode() if isinstance(value, str) else value


def encoded(values):
    def plain(value):
        if isinstance(value, list):
            return [plain(part) for part in value]
        return value.decode() if isinstance(value, bytes) else value

    return plain(values.numpy().tolist())


def b64(text):
    return {"b64": base64.b64encode(text.encode()).decode()}


def logs(path):
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    records = tf.data.TFRecordDataset(str(path / "assets.extra" / serving.WARMUP_NAME))
    return [PredictionLog.FromString(record.numpy()) for record in records]


def replayed(path):
    """Answers to the requests to warm up with, as the server replays them: `(signature, …)`."""
    signatures = tf.saved_model.load(str(path)).signatures
    for log in logs(path):
        kind = log.WhichOneof("log_type")
        request = getattr(log, kind).request
        name = request.model_spec.signature_name
        if kind == "predict_log":
            inputs = {n: tf.make_ndarray(tensor) for n, tensor in request.inputs.items()}
        else:
            examples = request.input.example_list.examples
            inputs = {"inputs": [example.SerializeToString() for example in examples]}
        yield name, signatures[name](**{n: tf.constant(x) for n, x in inputs.items()})


@pytest.fixture(scope="module")
def path(exported):
    return exported("saved_model", tensorflow_serving=True)[0]


@pytest.fixture(scope="module")
def rest(path):
    return Rest(path)


@pytest.fixture(scope="module")
def expected(classifier):
    return classifier.classify(TEXTS)


def assert_rows(rows, expected):
    assert [row["label"] for row in rows] == [answer.label for answer in expected]
    np.testing.assert_allclose([row["score"] for row in rows], [a.score for a in expected], 1e-4)
    np.testing.assert_allclose([r["probabilities"] for r in rows], matrix(expected), atol=1e-5)


@pytest.mark.parametrize(
    "row",
    [str, b64, lambda text: {"text": text}, lambda text: {"text": b64(text)}],
    ids=["bare", "base64", "named", "named base64"],
)
def test_rows_are_answered(rest, expected, row):
    body = json.dumps({"instances": [row(text) for text in TEXTS]})
    assert_rows(json.loads(rest.predict(body))["predictions"], expected)


@pytest.mark.parametrize("named", [False, True])
def test_columns_are_answered(rest, expected, named):
    column = [b64(text) for text in TEXTS]
    body = json.dumps({"inputs": {"text": column} if named else column})
    outputs = json.loads(rest.predict(body))["outputs"]
    rows = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
    assert_rows(rows, expected)


def test_rows_of_token_ids_are_answered(rest, classifier, expected):
    inputs = classifier.tokenizer(TEXTS, padding="max_length")
    rows = [{n: x[row].numpy().tolist() for n, x in inputs.items()} for row in range(len(TEXTS))]
    body = json.dumps({"signature_name": "token_ids", "instances": rows})
    assert_rows(json.loads(rest.predict(body))["predictions"], expected)


def test_classify_gives_every_label_and_its_score(rest, expected):
    body = json.dumps({"examples": [{"text": b64(text)} for text in TEXTS]})
    results = json.loads(rest.examples("classify", body))["results"]
    assert [[label for label, _ in row] for row in results] == [list(LABELS)] * len(TEXTS)
    found = [[score for _, score in row] for row in results]
    np.testing.assert_allclose(found, matrix(expected), atol=1e-5)


def test_classify_takes_pairs_and_a_context(classifier, tmp_path):
    report = export.saved_model(classifier, tmp_path, pairs=True, tensorflow_serving=True)
    first, second = PAIRS[0]
    body = json.dumps({"context": {"text": first}, "examples": [{"pair": second}] * 2})
    results = json.loads(Rest(report.path).examples("classify", body))["results"]
    found = [[score for _, score in row] for row in results]
    np.testing.assert_allclose(found, matrix(classifier.classify([PAIRS[0]] * 2)), atol=1e-5)


def test_regress_gives_the_number(tiny_classifier, tmp_path):
    parts = tiny_classifier()
    task = TextRegressor(parts.backbone, parts.tokenizer)
    report = export.saved_model(task, tmp_path / "rating", tensorflow_serving=True)
    body = json.dumps({"examples": [{"text": text} for text in TEXTS]})
    results = json.loads(Rest(report.path).examples("regress", body))["results"]
    np.testing.assert_allclose(results, task.rate(TEXTS), atol=1e-5)
    assert {name for name, _ in replayed(report.path)} == {
        "serving_default",
        "token_ids",
        "regress",
    }


def test_signatures_name_their_methods(path):
    content = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    methods = {n: s.method_name for n, s in content.meta_graphs[0].signature_def.items()}
    assert methods["serving_default"] == methods["token_ids"] == "tensorflow/serving/predict"
    assert methods["classify"] == "tensorflow/serving/classify"


def test_the_warm_up_asks_every_signature_for_one_and_for_many(path):
    sizes = {}
    for name, outputs in replayed(path):
        batch, *_ = next(iter(outputs.values())).shape
        sizes.setdefault(name, []).append(batch)
    assert sizes == {name: [1, 32] for name in ("serving_default", "token_ids", "classify")}
    assert {log.predict_log.request.model_spec.name for log in logs(path)} == {
        "",  # of the requests to classify
        "classifier",
    }


def test_the_warm_up_is_made_of_the_given_examples(tiny_classifier, tmp_path):
    texts = iter(["a lovely film", "tea"])
    report = export.saved_model(
        tiny_classifier(), tmp_path, examples=texts, tensorflow_serving=True
    )
    requests = [log.predict_log.request for log in logs(report.path)]
    asked = [tf.make_ndarray(r.inputs["text"]) for r in requests if "text" in r.inputs]
    assert [batch.tolist() for batch in asked] == [[b"a lovely film"], [b"a lovely film", b"tea"]]


def test_every_head_is_warmed_up(tiny_classifier, tmp_path):
    mood = tiny_classifier()
    multi = MultiTask({"mood": mood, "rating": TextRegressor(mood.backbone, mood.tokenizer)})
    report = export.saved_model(multi, tmp_path, tensorflow_serving=True)
    heads = {"mood", "rating"}
    assert {name for name, _ in replayed(report.path)} == heads | {f"{n}_token_ids" for n in heads}


@pytest.mark.slow
def test_a_generator_is_warmed_up_with_options(data_path, tmp_path):
    tokenizer = ByteBpeTokenizer.from_directory(data_path("vocab/gpt2"), max_length=16)
    keras.utils.set_random_seed(3)
    config = GptConfig(hidden_dim=8, num_layers=1, num_heads=2, max_length=16)
    task = TextGenerator(Gpt(config), tokenizer, decoding={"max_tokens": 2})
    report = export.saved_model(task, tmp_path, examples=["tea"], tensorflow_serving=True)
    found = dict(replayed(report.path))
    assert set(found) == {"serving_default", "token_ids", "with_options"}
    assert found["with_options"]["text"].numpy()[0, 0].decode() == task.generate("tea")


def test_the_configuration_lies_beside_the_versions_and_is_kept(tiny_classifier, tmp_path):
    from google.protobuf import text_format
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    directory, task = tmp_path / "comments", tiny_classifier()
    export.saved_model(task, directory, tensorflow_serving=True)
    assert names(directory) == ["1", "batching_parameters.txt", "models.config"]
    parsed = text_format.Parse((directory / "models.config").read_text(), ModelServerConfig())
    (config,) = parsed.model_config_list.config
    assert (config.name, config.base_path) == ("comments", str(directory))
    assert config.model_platform == "tensorflow"

    (directory / "batching_parameters.txt").write_text("max_batch_size { value: 8 }\n")
    export.saved_model(task, directory, tensorflow_serving=True)
    assert (directory / "batching_parameters.txt").read_text() == "max_batch_size { value: 8 }\n"
    assert export.load(directory).path == directory / "2"


def test_an_operation_that_the_server_has_not_is_refused_by_name(tiny_classifier, tmp_path):
    task = tiny_classifier()
    readable = task.readable

    def with_python(answers):
        score = tf.numpy_function(lambda score: score, [answers["score"]], tf.float32)
        return readable({**answers, "score": score})

    task.readable = with_python
    with pytest.raises(ValueError, match="TensorFlow Serving has no operations PyFunc: it has"):
        export.saved_model(task, tmp_path / "model")
    assert names(tmp_path) == []


def test_without_the_extra_the_error_names_it(classifier, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis.prediction_log_pb2", None)
    with pytest.raises(ImportError, match=r"pip install 'lingxi\[serving\]'"):
        export.saved_model(classifier, tmp_path / "model", tensorflow_serving=True)
    assert names(tmp_path) == []
