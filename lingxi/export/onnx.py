"""ONNX: one file for onnxruntime, OpenVINO and other engines; token ids in, answers out."""

import gc
import importlib
import zipfile
from collections.abc import Iterator

import tensorflow as tf

from lingxi.export import metadata, model_card, verification
from lingxi.export.onnx_graph import SAME_NAME
from lingxi.export.precision import in_precision
from lingxi.files import atomic_path, checked_file
from lingxi.tasks.masked_language_model import MaskedLanguageModel
from lingxi.tasks.question_answerer import QuestionAnswerer
from lingxi.tasks.sequence_head import SequenceHead
from lingxi.tasks.text_embedder import TextEmbedder
from lingxi.tasks.token_classifier import TokenClassifier

READERS = (SequenceHead, TextEmbedder, TokenClassifier, QuestionAnswerer, MaskedLanguageModel)
OPSET = 18  # the newest that tf2onnx writes
AXES = ("batch", "sequence")
LARGEST = 2**31 - 1  # bytes of a protocol buffer

# Behind the model lies the zip archive of `metadata.py`, as the value of a field of the protocol
# buffer that no engine knows, and that all skip: its key (number 10000, bytes) and its length.
FIELD_KEY = b"\x82\xf1\x04"
LENGTH_BYTES = 5


def onnx(
    task,
    path,
    pairs=False,
    max_length=None,
    examples=None,
    min_agreement=None,
    card=None,
):
    """Write one ONNX file and verify it in onnxruntime (extra `onnx`).

    It takes what the tokenizer gives, `token_ids` int32, `padding_mask` bool and, of BERT,
    `segment_ids` int32, `[batch, sequence]`, both free; and gives the answers of the task that are
    numbers (of a classifier `label_id`, `score`, `probabilities`), in float32; an answer that has
    the name of an input is called `token_ids_out`. The files of the tokenizer are packed behind the
    model, where engines ignore them: `lingxi.export.load` of the file takes raw text.

    Args:
        task: a trained task that reads texts: a classifier, regressor, embedder, token classifier,
            question answerer or masked language model.
        path: ends in `.onnx`.
        pairs: `lingxi.export.load` takes pairs of texts.
        max_length: in tokens, to which it cuts them; by default the task's.
        examples, min_agreement, card: as of `lingxi.export.saved_model`.

    Returns:
        A `lingxi.export.Report`.

    Raises:
        VerificationError: the artifact's answers differ from the task's; nothing is left behind.
        ValueError, OSError: bad arguments; a target that cannot be written; operations that ONNX
            has not.
        ImportError: the extra is not installed.
    """
    path = checked_file(path, ".onnx", "an ONNX file")
    if not isinstance(task, READERS):
        raise ValueError(
            "ONNX is for tasks that read texts: "
            f"{', '.join(reader.__name__ for reader in READERS)}; got a {type(task).__name__}. "
            "Pass one task of a MultiTask; for others use saved_model or tflite"
        )
    pairs, max_length = task.check_pairs(pairs), task.checked_max_length(max_length)
    size = 4 * task.count_params()
    if size > LARGEST:
        raise ValueError(
            f"an ONNX file holds less than 2 GiB, and these weights are {size / 2**30:.1f} GiB; "
            "use saved_model"
        )
    _check_installed()
    card = model_card.make(task, card)
    examples = list(examples) if isinstance(examples, Iterator) else examples
    gc.collect()  # TensorFlow's graphs of the export before hold each other
    facts = metadata.describe(
        task, format="ONNX", input="ids", pairs=pairs, max_length=max_length, padding="longest"
    )
    with atomic_path(path) as temporary:
        model = _converted(in_precision(task, "float32"))
        header = FIELD_KEY + bytes(LENGTH_BYTES)
        temporary.write_bytes(model.SerializeToString() + header)
        metadata.append(temporary, {**facts, "card": card}, task.tokenizer)
        _write_length(temporary)
        report = verification.verify_unpublished(task, temporary, examples, min_agreement)
        report = model_card.seal(temporary, report)
        _write_length(temporary)
    return report.moved_to(path)


def _check_installed():
    for name in ("onnx", "onnxruntime", "tf2onnx"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ImportError(f"ONNX needs {name}: pip install 'lingxi[onnx]'") from error


def _converted(task):
    """The `onnx.ModelProto` of a task from token ids to answers."""
    import tf2onnx
    from onnx import checker
    from tf2onnx import optimizer

    graph = tf.function(lambda **inputs: task.answers(inputs), autograph=False)
    graph = graph.get_concrete_function(**task.tokenized_signature())
    inputs = {t.name: t.op.name for t in graph.inputs if t.dtype != tf.resource}
    outputs = {
        tensor.name: name + SAME_NAME * (name in inputs.values())
        for name, tensor in graph.structured_outputs.items()
    }
    frozen = tf2onnx.tf_loader.from_function(graph, [*inputs], [*outputs])
    read = {node.name for node in frozen.node}
    inputs = {tensor: name for tensor, name in inputs.items() if name in read}
    with tf.Graph().as_default() as frozen_graph:
        tf.import_graph_def(frozen, name="")
        graph = tf2onnx.tfonnx.process_tf_graph(
            frozen_graph,
            opset=OPSET,
            input_names=[*inputs],
            output_names=[*outputs],
            custom_op_handlers={"XlaDynamicUpdateSlice": (_update_slice, [])},
            tensors_to_rename=inputs | outputs,
        )
    # Not all that tf2onnx has: its ReshapeOptimizer writes 0 for a length that is the input's, and
    # its BackToBackOptimizer then gives that reshape another input. Engines do the same, rightly.
    passes = {
        "fold": optimizer.ConstFoldOptimizer,
        "merge": optimizer.MergeDuplicatedNodesOptimizer,
        "loop": optimizer.LoopOptimizer,
        "identity": optimizer.IdentityOptimizer,
    }
    model = optimizer.optimize_graph(graph, catch_errors=False, optimizers=passes).make_model(
        type(task).__name__
    )
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in zip(value.type.tensor_type.shape.dim, AXES, strict=False):
            if not axis.dim_value:
                axis.dim_param = name
    try:
        checker.check_model(model)
    except checker.ValidationError as error:
        raise ValueError(
            f"ONNX cannot express a {type(task).__name__} like this one: {error}; use saved_model"
        ) from error
    return model


def _update_slice(graph, node, *_):
    """For tf2onnx: XLA's operation that writes `update` into `operand` from `start` on.

    It becomes a choice between `operand` and an `update` with zeros around it.
    """
    from onnx import TensorProto, helper

    def add(operation, *inputs, **attributes):
        return graph.make_node(operation, [*inputs], attr=attributes).output[0]

    operand, update, start = node.input
    before, size = add("Cast", start, to=TensorProto.INT64), add("Shape", update)
    behind = add("Sub", add("Sub", add("Shape", operand), size), before)
    margins = add("Concat", before, behind, axis=0)
    one = helper.make_tensor("one", TensorProto.INT32, [1], [1])
    ones = add("Pad", add("ConstantOfShape", size, value=one), margins)
    choice = [add("Cast", ones, to=TensorProto.BOOL), add("Pad", update, margins), operand]
    outputs = {"outputs": node.output, "shapes": node.output_shapes, "dtypes": node.output_dtypes}
    graph.remove_node(node.name)
    graph.make_node("Where", choice, name=node.name, **outputs)


def _write_length(path):
    """Say in the header of the archive's field how long it is.

    The header is a part of what the checksums are of, and they are in the archive; but new ones
    are as long as old ones.
    """
    facts = metadata.read(path)
    metadata.seal(path, facts)
    with zipfile.ZipFile(path) as archive:
        start = metadata.model_length(archive)
    length = path.stat().st_size - start
    more = [0x80] * (LENGTH_BYTES - 1) + [0]  # a varint goes on where this bit is set
    with path.open("r+b") as file:
        file.seek(start - LENGTH_BYTES)
        file.write(bytes(length >> 7 * i & 0x7F | bit for i, bit in enumerate(more)))
    metadata.seal(path, facts)
