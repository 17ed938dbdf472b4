"""How many bytes of an artifact are embeddings, layers, tokenizer, graph and metadata."""

import math
import pathlib
import zipfile

from lingxi.export import metadata

COMPONENTS = ("embeddings", "layers", "tokenizer", "graph", "metadata")
LOOKUPS = {"GATHER", "EMBEDDING_LOOKUP"}  # of TFLite: what reads rows of an embedding table
WEIGHTS = {"FLOAT32", "FLOAT16", "BFLOAT16", "INT8", "UINT8", "INT4", "INT2"}
NO_ONNX = "to look into an ONNX file: pip install 'lingxi[onnx]'"
LARGE = 1000  # bytes of a constant in a SavedModel; if it holds no floats it is a vocabulary's


def sizes(path):
    """`{component: bytes}` of a TFLite or ONNX file or of one version of a SavedModel: all of it.

    Embeddings and layers are weights; the tokenizer is its vocabulary and tables, in the graph or
    packed beside it; the graph is everything else that runs.
    """
    path = pathlib.Path(path)
    found = dict.fromkeys(COMPONENTS, 0)
    of_file = _of_onnx if path.suffix == ".onnx" else _of_tflite
    total = (_of_saved_model if path.is_dir() else of_file)(path, found)
    found["graph"] = total - sum(found.values())
    return found


# A TFLite file: a constant is of the component that the operators which read it belong to


def _of_tflite(path, found):
    from ai_edge_litert import schema_py_generated as schema

    _measure_packed(path, found)
    content = path.read_bytes()
    model = schema.Model.GetRootAs(content)
    types = {number: name for name, number in vars(schema.TensorType).items()}
    operators = {number: name for name, number in vars(schema.BuiltinOperator).items()}
    seen = {}  # place of each constant, which equal ones share: component and bytes
    for index in range(model.SubgraphsLength()):
        graph = model.Subgraphs(index)
        looked_up, tokenizing = _readers(graph, model, operators)
        for number in range(graph.TensorsLength()):
            tensor = graph.Tensors(number)
            place, size = _constant(model.Buffers(tensor.Buffer()))
            kind = types[tensor.Type()]
            if number in tokenizing:
                component = "tokenizer"
            elif number in looked_up and tensor.ShapeLength() > 1 and kind in WEIGHTS:
                component = "embeddings"
            elif kind in WEIGHTS:
                component = "layers"
            else:
                continue
            seen[place] = min(seen.get(place, (component, size)), (component, size))  # table first
    for component, size in seen.values():
        found[component] += size
    return len(content)


def _measure_packed(path, found):
    """The files behind the model."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            packed = [e for e in archive.infolist() if e.filename != metadata.METADATA_NAME]
            found["tokenizer"] = sum(entry.file_size for entry in packed)
            size = path.stat().st_size - metadata.model_length(archive)
        found["metadata"] = size - found["tokenizer"]


def _readers(graph, model, operators):
    """Tensors whose rows are looked up, and tensors that the tokenizer's custom operators read."""
    looked_up, tokenizing, converted = set(), set(), {}
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        name = operators[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        inputs = [operator.Inputs(i) for i in range(operator.InputsLength())]
        if name == "CUSTOM":
            tokenizing.update(inputs)
        elif name in LOOKUPS:
            looked_up.add(inputs[1 if name == "EMBEDDING_LOOKUP" else 0])
        elif name == "DEQUANTIZE":
            converted[operator.Outputs(0)] = inputs[0]
    return looked_up | {converted[t] for t in looked_up & set(converted)}, tokenizing


def _constant(buffer):
    """Place and bytes of a buffer's data: inside the flatbuffer, or, if that is full, behind it."""
    if buffer.DataLength():
        return buffer.DataAsNumpy().__array_interface__["data"][0], buffer.DataLength()
    return -buffer.Offset(), buffer.Size()


# An ONNX file: a constant is an embedding if its rows are gathered


def _of_onnx(path, found):
    try:
        import onnx
    except ImportError as error:
        raise ImportError(NO_ONNX) from error
    _measure_packed(path, found)
    graph = onnx.load(path).graph
    looked_up = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    for constant in graph.initializer:
        if onnx.TensorProto.DataType.Name(constant.data_type) in WEIGHTS | {"FLOAT"}:
            is_table = constant.name in looked_up and len(constant.dims) > 1
            found["embeddings" if is_table else "layers"] += constant.ByteSize()
    return path.stat().st_size


# A SavedModel: variables by their names, constants by their types and names


def _of_saved_model(directory, found):
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    content = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    (graph, *_) = content.meta_graphs
    for node in graph.object_graph_def.nodes:
        if node.WhichOneof("kind") == "variable":
            variable = node.variable
            shape = tf.TensorShape(variable.shape).as_list()
            size = math.prod(shape) * tf.dtypes.as_dtype(variable.dtype).size
            found["embeddings" if _is_embedding(variable.name) else "layers"] += size
    functions = graph.graph_def.library.function
    nodes = [graph.graph_def.node, *(function.node_def for function in functions)]
    for node in (node for part in nodes for node in part):
        for value in node.attr.values():
            size = len(value.s) or value.tensor.ByteSize()
            if size >= LARGE:
                kind = value.tensor.dtype and tf.dtypes.as_dtype(value.tensor.dtype)
                is_weight = kind and (kind.is_floating or kind == tf.int8)
                component = "embeddings" if _is_embedding(node.name) else "layers"
                found[component if is_weight else "tokenizer"] += size
    total = 0
    for file in directory.rglob("*"):
        if file.is_file():
            size, (place, *_) = file.stat().st_size, file.relative_to(directory).parts
            total += size
            if place in ("assets", metadata.EXTRA_ASSETS):
                found["tokenizer" if place == "assets" else "metadata"] += size
    return total


def _is_embedding(name):
    """Whether a weight is a table, such as `bert/token_embedding/embeddings`."""
    return any(part.endswith("embedding") for part in name.split("/"))
