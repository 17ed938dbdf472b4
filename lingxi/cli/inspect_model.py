"""Show what is in a trained task, a TFLite or ONNX file or a SavedModel.

Sizes and labels of a task; signatures, operators and number formats of an export, its bytes by
component, and its card: what it was made of and how it was verified. Nothing is run. An export that
was damaged or changed is refused.
"""

import collections
import json
import math
import pathlib
import zipfile

from absl import app, flags

from lingxi.cli import models, size_chart
from lingxi.cli.command import check_writable, new_flags, table
from lingxi.cli.quiet import quiet_tensorflow

FLAGS = new_flags()
flags.DEFINE_string(
    "chart",
    None,
    "Draw the sizes of an export's components into `FILE`, .png or .svg (extra plots).",
    flag_values=FLAGS,
)
REQUIRED = ()
USAGE = "PATH [flags]"
EXAMPLES = """
    lingxi inspect runs/comments
    lingxi inspect comments.tflite
    lingxi inspect serving/comments --chart sizes.png
"""
_METADATA = "lingxi.json"  # of a task, in its exports


def run(arguments):
    if len(arguments) != 1:
        raise app.UsageError(f"inspect takes one path, got {arguments or 'none'}")
    path = pathlib.Path(arguments[0]).expanduser()
    saved_model = models.saved_model_directory(path)
    if path.is_file():
        rows = _onnx(path) if path.suffix == ".onnx" else _tflite(path)
    elif saved_model:
        rows = _saved_model(saved_model)
    else:
        rows = _preset(path if path.exists() else _resolve(arguments[0]))
    if FLAGS.chart and not (path.is_file() or saved_model):
        raise app.UsageError(f"--chart is for exports; {arguments[0]} is a preset")
    print(table(rows))
    if FLAGS.chart:
        check_writable(FLAGS.chart)
        size_chart.draw(_components(saved_model or path), path.name, FLAGS.chart)


def _resolve(name):
    with quiet_tensorflow(FLAGS.debug):
        from lingxi.zoo import preset
    return preset.resolve(name)


# A preset: config.json, *.safetensors and its vocabulary, without a Keras model


def _preset(directory):
    import safetensors

    if not (directory / "config.json").is_file():
        raise FileNotFoundError(
            f"{directory} is neither a trained task (no config.json) nor a SavedModel "
            "(no saved_model.pb)"
        )
    config = json.loads((directory / "config.json").read_text("utf-8"))
    num_parameters = 0
    formats = set()
    for path in directory.glob("*.safetensors"):
        with safetensors.safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - it is no dict
                tensor = file.get_slice(name)
                if "F" in tensor.get_dtype():  # old files also hold position ids
                    num_parameters += math.prod(tensor.get_shape())
                    formats.add(tensor.get_dtype())
    yield "format", "preset in Hugging Face layout"
    yield "architecture", ", ".join(config.get("architectures", [config.get("model_type", "?")]))
    for title, key in (
        ("layers", "num_hidden_layers"),
        ("hidden_dim", "hidden_size"),
        ("heads", "num_attention_heads"),
        ("intermediate_dim", "intermediate_size"),
    ):
        yield title, str(config.get(key, "?"))
    yield "parameters", f"{num_parameters:,} ({', '.join(sorted(formats)) or 'no weights'})"
    settings = config.get("lingxi", {})
    if "task" in settings:
        yield "task", settings["task"]
    if "tasks" in settings:
        yield "heads", f"{', '.join(settings['tasks'])} (inspect their directories)"
    if "max_size" in settings:
        yield "max_size", f"{settings['max_size']} pixels"
    else:
        longest = settings.get("max_length", config.get("max_position_embeddings", "?"))
        yield "max_length", str(longest)
    if (directory / "vocab.txt").is_file():
        text = (directory / "vocab.txt").read_text("utf-8")
        num_tokens = len(text.rstrip("\n").split("\n"))
        yield "vocabulary", f"{num_tokens:,} tokens"
    elif (directory / "vocab.json").is_file():
        num_tokens = len(json.loads((directory / "vocab.json").read_text("utf-8")))
        yield "vocabulary", f"{num_tokens:,} tokens"
    if "id2label" in config:
        pairs = sorted(config["id2label"].items(), key=lambda item: int(item[0]))
        labels = [label for _, label in pairs]
        if settings.get("task") == "TokenClassifier":
            yield _tags(labels)
        else:
            yield _labels(labels, config.get("problem_type") == "multi_label_classification")
    yield "size", _megabytes(directory)


# A TFLite file: its flatbuffer, without an interpreter


def _tflite(path):
    from ai_edge_litert import schema_py_generated as schema

    content = path.read_bytes()
    if not schema.Model.ModelBufferHasIdentifier(content, 0):
        raise ValueError(f"{path} is not a TFLite file; inspect takes directories, .tflite, .onnx")
    model = schema.Model.GetRootAs(content)
    types = _names(schema.TensorType)
    yield "format", "TensorFlow Lite"
    yield "size", _megabytes(path)
    yield from _component_rows(path)
    for signature in _items(model, "SignatureDefs"):
        graph = model.Subgraphs(signature.SubgraphIndex())
        yield "signature", signature.SignatureKey().decode()
        for title, tensors in (("  input", "Inputs"), ("  output", "Outputs")):
            for entry in _items(signature, tensors):
                tensor = graph.Tensors(entry.TensorIndex())
                dtype = types[tensor.Type()].lower()
                yield title, f"{entry.Name().decode()} {dtype} {_tensor_shape(tensor)}"
    yield from _operators(schema, model)
    weights = _weights(model, types)
    yield "constants", ", ".join(f"{kind} {share:.0%}" for kind, share in weights if share > 0.005)
    yield "quantization", _quantization(weights)
    yield "metadata", ", ".join(e.Name().decode() for e in _items(model, "Metadata")) or "none"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            yield "packed files", ", ".join(packed.namelist())
            if _METADATA in packed.namelist():
                yield from _metadata(path)


def _tensor_shape(tensor):
    """The shape signature, with unknown sizes, or else the shape; flatbuffers has 0 for none."""
    for sizes in (tensor.ShapeSignatureAsNumpy(), tensor.ShapeAsNumpy()):
        if not isinstance(sizes, int):
            return _shape(sizes)
    return _shape(())


def _metadata(path):
    """Rows: what lingxi wrote of the task, and of the artifact."""
    from lingxi.export import metadata

    facts = metadata.read(path)
    yield "task", facts["task"]
    for name in ("precision", "target"):
        if facts.get(name):
            yield name, facts[name]
    if "tasks" in facts:
        for name, own in facts["tasks"].items():
            yield "head", name
            yield from _facts(own)
    else:
        yield from _facts(facts)
    if "card" in facts:
        yield from _card(dict(facts["card"]))
    for part, checksum in facts.get(metadata.CHECKSUMS, {}).items():
        if part == metadata.MODEL or part.startswith("variables/variables.data"):
            yield "weights", f"SHA-256 {checksum}, as written"


def _card(card):
    """Rows: the model card."""
    architecture, parameters = card.pop("architecture"), card.pop("num_parameters")
    yield "architecture", f"{architecture}, {parameters:,} parameters"
    versions = (f"{name} {card.pop(name)}" for name in ("lingxi", "tensorflow"))
    yield "made", f"{card.pop('created')} by {', '.join(versions)}"
    report = card.pop("verification")
    yield (
        "verified",
        f"{report['agreement']:.1%} of {report['num_examples']} answers equal to Keras; largest "
        f"difference {report['max_difference']:.2g}",
    )
    for name, value in card.items():
        yield name.replace("_", " "), _plain(value)


def _plain(value):
    """What the user said in the card, in one line."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())


def _components(path):
    with quiet_tensorflow(FLAGS.debug):
        from lingxi.export import components

        return components.sizes(path)


def _component_rows(path):
    """Rows: the bytes of each component."""
    sizes = _components(path)
    for name, size in sizes.items():
        yield f"  {name}", f"{size / 1e6:.2f} MB ({size / sum(sizes.values()):.1%})"


def _facts(metadata):
    """Rows: what is known of one task."""
    if "labels" in metadata:
        yield _labels(metadata["labels"], metadata.get("multi_label", False))
    if "tags" in metadata:
        yield _tags(metadata["tags"])
    if "max_length" in metadata:
        yield "max_length", str(metadata["max_length"])
    if "size" in metadata:
        yield "pictures", "{} x {} pixels, height x width".format(*metadata["size"])
    if "kernels" in metadata:
        yield "kernels", f"{', '.join(metadata['kernels'])} (of tensorflow_text.tflite_registrar)"


def _labels(labels, multi_label):
    return "labels", f"{', '.join(labels)} ({'several' if multi_label else 'one'} a text)"


def _tags(names):
    return "tags", f"{', '.join(names)} (one a word)"


def _operators(schema, model):
    """Rows: the names of the builtin, the custom and the Flex (TensorFlow) operators."""
    builtin = _names(schema.BuiltinOperator)
    names = collections.defaultdict(set)
    for code in _items(model, "OperatorCodes"):
        if code.CustomCode() is None:
            number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            names["builtin"].add(builtin.get(number, str(number)))
        else:
            name = code.CustomCode().decode()
            names["Flex" if name.startswith("Flex") else "custom"].add(name)
    yield "operators", f"{len(names['builtin'])} builtin"
    for kind in ("custom", "Flex"):
        if names[kind]:
            yield f"{kind} operators", ", ".join(sorted(names[kind]))


def _weights(model, types):
    """Pairs of number format and share of the bytes of all constants, largest first."""
    formats = {}  # of each buffer that holds numbers
    for graph in _items(model, "Subgraphs"):
        for tensor in _items(graph, "Tensors"):
            formats[tensor.Buffer()] = types[tensor.Type()].lower()
    sizes = collections.Counter()
    for index, kind in formats.items():
        sizes[kind] += max(model.Buffers(index).DataLength(), model.Buffers(index).Size())
    return [(kind, size / sizes.total()) for kind, size in sizes.most_common() if size]


def _quantization(weights):
    """A guess from the format of most of the weights."""
    kind = next((kind for kind, _ in weights if kind in ("int4", "int8", "float16", "float32")), "")
    return "none" if kind in ("", "float32") else kind


def _items(table, name):
    """The entries of a flatbuffer's vector."""
    return [getattr(table, name)(index) for index in range(getattr(table, f"{name}Length")())]


def _names(enumeration):
    return {number: name for name, number in vars(enumeration).items() if name[0] != "_"}


# An ONNX file: its protocol buffer, without an engine


def _onnx(path):
    components = list(_component_rows(path))
    import onnx

    model = onnx.load(path)
    (version,) = (opset.version for opset in model.opset_import if not opset.domain)
    yield "format", f"ONNX, operators of version {version}"
    yield "size", _megabytes(path)
    yield from components
    for title, tensors in (("input", model.graph.input), ("output", model.graph.output)):
        for tensor in tensors:
            kind = onnx.TensorProto.DataType.Name(tensor.type.tensor_type.elem_type).lower()
            sizes = (dim.dim_value or dim.dim_param for dim in tensor.type.tensor_type.shape.dim)
            yield title, f"{tensor.name} {kind} [{', '.join(map(str, sizes))}]"
    yield "operators", f"{len({node.op_type for node in model.graph.node})} of ONNX"
    yield from _metadata(path)


# A SavedModel: its protocol buffer, without loading it


def _saved_model(directory):
    with quiet_tensorflow(FLAGS.debug):
        import tensorflow as tf
        from tensorflow.core.protobuf import saved_model_pb2
    content = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    (graph, *_) = content.meta_graphs
    yield "format", f"SavedModel of TensorFlow {graph.meta_info_def.tensorflow_version}"
    yield "directory", str(directory)
    yield "size", _megabytes(directory)
    yield from _component_rows(directory)
    if (directory / "assets.extra" / _METADATA).is_file():
        yield from _metadata(directory)
    for key, signature in sorted(graph.signature_def.items()):
        if key.startswith("__"):
            continue
        yield "signature", key
        for title, tensors in (("  input", signature.inputs), ("  output", signature.outputs)):
            for name, tensor in sorted(tensors.items()):
                shape = [dim.size for dim in tensor.tensor_shape.dim]
                dtype = tf.dtypes.as_dtype(tensor.dtype).name
                yield title, f"{name} {dtype} {_shape(shape)}"


def _shape(sizes):
    return f"[{', '.join('?' if size < 0 else str(size) for size in sizes)}]"


def _megabytes(path):
    files = path.rglob("*") if path.is_dir() else [path]
    return f"{sum(file.stat().st_size for file in files if file.is_file()) / 1e6:.2f} MB"
