"""What TensorFlow Serving wants of a SavedModel: operations that it has, its signatures, warm-up.

https://www.tensorflow.org/tfx/serving/saved_model_warmup and its `signature_defs.md`.
"""

import importlib
import pathlib

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from lingxi.export import metadata
from lingxi.export.artifact import of_task
from lingxi.export.saved_model_graph import SavedModelGraph
from lingxi.files import atomic_path
from lingxi.tasks.text_classifier import TextClassifier
from lingxi.tasks.text_regressor import TextRegressor

# Its model server links TensorFlow, XLA and TensorFlow Text (`server_lib`, SUPPORTED_TENSORFLOW_OPS
# and `tensorflow_model_server_main_lib` in its model_servers/BUILD). Decoding loops use one of XLA,
# for which its GPU images have no compiler (tensorflow/serving issue 2217).
PYTHON_OPERATIONS = {"EagerPyFunc", "PyFunc", "PyFuncStateless"}
CORE_OPERATIONS = set(dir(tf.raw_ops)) - PYTHON_OPERATIONS
XLA_PREFIX = "Xla"
# Of TensorFlow Text 2.12: images up to 2.18 have that one (tensorflow/serving pull request 4057).
TEXT_OPERATIONS = {
    "CaseFoldUTF8",
    "ConstrainedSequence",
    "FastBertNormalize",
    "FastWordpieceTokenizeWithOffsets",
    "FindSourceOffsets",
    "MaxSpanningTree",
    "NormalizeUTF8",
    "NormalizeUTF8WithOffsetsMap",
    "PhraseTokenize",
    "RegexSplitWithOffsets",
    "SentenceFragments",
    "SentenceFragmentsV2",
    "SentencepieceDetokenizeOp",
    "SentencepieceIdToStringOp",
    "SentencepieceOp",
    "SentencepieceStringToIdOp",
    "SentencepieceTokenizeOp",
    "SentencepieceTokenizeWithOffsetsOp",
    "SentencepieceVocabSizeOp",
    "SplitMergeTokenizeWithOffsets",
    "TFText>NgramsStringJoin",
    "TFText>WhitespaceTokenizeWithOffsetsV2",
    "TokenizerFromLogits",
    "UnicodeScriptTokenizeWithOffsets",
    "WhitespaceTokenizeWithOffsets",
    "WordpieceTokenizeWithOffsets",
}

GRAPH_NAME = "saved_model.pb"
WARMUP_NAME = "tf_serving_warmup_requests"
WARMUP_BATCH = 32
METHODS = {name: f"tensorflow/serving/{name}" for name in ("classify", "regress")}

MODELS = """\
# tensorflow_model_server --rest_api_port=8501 --model_config_file=THIS_FILE \\
#   --enable_batching --batching_parameters_file=batching_parameters.txt
{}"""
BATCHING = f"""\
# Of --enable_batching. Requests beyond the queue are refused at once (UNAVAILABLE). As many batches
# run at a time as the machine has cores; num_batch_threads {{ value: … }} changes that.
# Batches are made of requests to one signature: raw texts always fit; token ids must have one
# length; `with_options`, whose options are scalars, needs a server without batching.
max_batch_size {{ value: {WARMUP_BATCH} }}
batch_timeout_micros {{ value: 1000 }}
max_enqueued_batches {{ value: 100 }}
"""


def check_operations(directory):
    """Raise unless a stock TensorFlow Serving has every operation of a SavedModel.

    Raises:
        ValueError: naming those that it has not.
    """
    graph = _read(directory).meta_graphs[0].graph_def
    functions = {function.signature.name for function in graph.library.function}
    nodes = [*graph.node, *(n for function in graph.library.function for n in function.node_def)]
    unknown = {node.op for node in nodes} - functions - CORE_OPERATIONS - TEXT_OPERATIONS
    unknown = sorted(name for name in unknown if not name.startswith(XLA_PREFIX))
    if unknown:
        raise ValueError(
            f"TensorFlow Serving has no operations {', '.join(unknown)}: it has those of "
            "TensorFlow and TensorFlow Text, and runs no Python. Write that part of the task with "
            "these"
        )


def signatures(task, served, pairs):
    """`{"classify": …}` or `{"regress": …}`, where one fits `task`.

    They take `inputs`, serialized `tf.train.Example`s `[batch]` with the feature "text" (and
    "pair"), and give `classes` and `scores`, `[batch, labels]`, or `outputs`, `[batch]`.

    Args:
        served: the functions of the other signatures.
    """
    answers = served.get("serving_default")
    names = ("text", "pair") if pairs else ("text",)
    features = {name: tf.io.FixedLenFeature([], tf.string) for name in names}

    def classify(inputs):
        scores = answers(**tf.io.parse_example(inputs, features))["probabilities"]
        classes = tf.broadcast_to(tf.constant(task.labels), tf.shape(scores))
        return {"classes": classes, "scores": scores}

    def regress(inputs):
        return {"outputs": answers(**tf.io.parse_example(inputs, features))["score"]}

    examples = [tf.TensorSpec([None], tf.string, name="inputs")]
    if isinstance(task, TextClassifier):
        return {"classify": tf.function(classify, input_signature=examples, autograph=False)}
    if isinstance(task, TextRegressor):
        return {"regress": tf.function(regress, input_signature=examples, autograph=False)}
    return {}


def write_methods(directory):
    """Name the methods of the signatures `classify` and `regress`: TensorFlow 2 cannot."""
    content = _read(directory)
    for name, method in METHODS.items():
        if name in content.meta_graphs[0].signature_def:
            content.meta_graphs[0].signature_def[name].method_name = method
    (pathlib.Path(directory) / GRAPH_NAME).write_bytes(content.SerializeToString())


def check_installed():
    """Raise unless the messages of TensorFlow Serving are there.

    Raises:
        ImportError: naming the extra that has them.
    """
    _messages("prediction_log_pb2")


def write_warmup(directory, name, task, examples=None):
    """Requests that TensorFlow Serving replays when it loads the model, so that no user waits.

    To every signature one text and a batch, each answered here once; records are
    `PredictionLog`s.

    Args:
        directory: of one version, with its metadata.
        name: of the model.
        examples: as of `lingxi.export.saved_model`.
    """
    logs = [_log(name, *request) for request in _requests(directory, task, examples)]
    path = pathlib.Path(directory) / metadata.EXTRA_ASSETS / WARMUP_NAME
    with tf.io.TFRecordWriter(str(path)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


def write_configuration(directory):
    """`models.config` and `batching_parameters.txt` beside the versions, unless they are there."""
    from google.protobuf import text_format

    directory = pathlib.Path(directory).absolute()
    servers = _messages("model_server_config_pb2", "config").ModelServerConfig()
    servers.model_config_list.config.add(
        name=directory.name, base_path=str(directory), model_platform="tensorflow"
    )
    models = MODELS.format(text_format.MessageToString(servers, as_utf8=True))
    for name, text in (("models.config", models), ("batching_parameters.txt", BATCHING)):
        if not (directory / name).exists():
            with atomic_path(directory / name) as temporary:
                temporary.write_text(text, "utf-8")


def _requests(directory, task, examples):
    """`(signature, inputs)` of what the verb of the task asks of its signatures."""
    facts = metadata.read(directory)
    graph = SavedModelGraph(directory, facts)
    made = []
    graph.signatures = {n: _Recorder(n, s, made) for n, s in graph.signatures.items()}
    artifact = of_task(directory, facts, graph)
    heads = [(artifact, task, examples)]
    if "tasks" in facts:
        heads = [(artifact[n], task[n], task.setting(examples or {}, n)) for n in task.tasks]
    for part, own, texts in heads:
        texts = part.examples() if texts is None else part.listed(texts)
        for batch in (texts[:1], texts[:WARMUP_BATCH]):
            part.found(own, batch)
    raw = [inputs for signature, inputs in made if signature == "serving_default"]
    if "with_options" in graph.signatures:
        graph.run(raw[0]["text"], max_tokens=graph.defaults["max_tokens"])
    for name in METHODS.keys() & graph.signatures.keys():
        for inputs in raw:
            graph.signatures[name](inputs=tf.constant(_examples(inputs)))
    return made


class _Recorder:
    """A signature that notes what it is called with."""

    def __init__(self, name, signature, made):
        self._name, self._signature, self._made = name, signature, made

    def __call__(self, **inputs):
        self._made.append((self._name, inputs))
        return self._signature(**inputs)

    def __getattr__(self, name):
        return getattr(self._signature, name)


def _examples(inputs):
    """A serialized `tf.train.Example` for each row of string tensors `{name: [batch]}`."""
    examples = []
    for row in zip(*(values.numpy() for values in inputs.values()), strict=True):
        example = tf.train.Example()
        for name, value in zip(inputs, row, strict=True):
            example.features.feature[name].bytes_list.value.append(value)
        examples.append(example.SerializeToString())
    return examples


def _log(model, signature, inputs):
    """The `PredictionLog` of one request."""
    log = _messages("prediction_log_pb2").PredictionLog()
    kind = signature if signature in METHODS else "predict"
    request = getattr(log, f"{kind}_log").request
    request.model_spec.name, request.model_spec.signature_name = model, signature
    if kind == "predict":
        for name, values in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    else:
        examples = request.input.example_list.examples
        examples.extend(map(tf.train.Example.FromString, inputs["inputs"].numpy()))
    return log


def _messages(module, package="apis"):
    try:
        return importlib.import_module(f"tensorflow_serving.{package}.{module}")
    except ImportError as error:
        raise ImportError(
            "tensorflow_serving=True needs tensorflow-serving-api: pip install 'lingxi[serving]'"
        ) from error


def _read(directory):
    content = (pathlib.Path(directory) / GRAPH_NAME).read_bytes()
    return saved_model_pb2.SavedModel.FromString(content)
