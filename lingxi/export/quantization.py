"""TFLite files whose weights, and activations, have few bits, by ai-edge-quantizer.

It quantizes no GATHER, by which the converter looks up the rows of an embedding table. So the
lookups become EMBEDDING_LOOKUP first, which has a scale for each row.
"""

import importlib
import re

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from lingxi.export import flatbuffer

MODES = ("int8_weights", "int4", "int8_static")
OF_LAYERS = (None, "float16", "int8", "int8_weights", "int4")  # in a mixed recipe
REST = "*"  # key of a mixed recipe: all other layers
FEWEST_WEIGHTS = 1024  # of a layer; fewer stay float32, as TensorFlow's converter leaves them
LOOKUP = "EMBEDDING_LOOKUP"
PRODUCTS_OF_4_BITS = ("FULLY_CONNECTED", "CONV_2D")
PRODUCTS = (*PRODUCTS_OF_4_BITS, "DEPTHWISE_CONV_2D")
STATIC = (*PRODUCTS, "BATCH_MATMUL")  # of two activations too
EXTRA = "quantization"


def check(quantize):
    """Raise unless `quantize` is of `MODES` or a mixed recipe, and ai-edge-quantizer is there."""
    if isinstance(quantize, dict):
        wrong = [mode for mode in quantize.values() if mode not in OF_LAYERS]
        if wrong or not quantize:
            raise ValueError(
                f"a mixed quantize gives each pattern of layer names one of {OF_LAYERS}, as in "
                f'{{"embedding": "int4", "*": "int8"}}; got {quantize!r}'
            )
        for pattern in quantize:
            try:
                re.compile(_expression(pattern))
            except (re.error, TypeError) as error:
                raise ValueError(
                    f"{pattern!r} in quantize is no regular expression: {error}"
                ) from None
    _tool("recipe_manager")


def prepared(content):
    """The content of a float32 TFLite file as `quantized` takes it: the same answers."""
    model = flatbuffer.unpack(content)
    _rename(model)
    _look_up(model)
    return flatbuffer.pack(model)


def quantized(content, quantize, ranges=None):
    """The content of a `prepared` file in fewer bits.

    Args:
        quantize: as of `check`.
        ranges: for "int8_static", `{tensor: {"min", "max"}}` of what its operators make.

    Raises:
        ValueError: a pattern of a mixed recipe fits no layer that has weights.
    """
    model = _tool("utils.tfl_flatbuffer_utils").read_model(content)
    recipe = _recipe(quantize, model)
    parameters = _tool("params_generator").ParamsGenerator(model)
    parameters = parameters.generate_quantization_parameters(recipe, ranges, False)
    modifier = _tool("model_modifier").ModelModifier(model)
    return bytes(modifier.modify_model(parameters, enable_progress_bar=False))


def _tool(name):
    try:
        return importlib.import_module(f"ai_edge_quantizer.{name}")
    except ImportError as error:
        raise ImportError(
            f"quantize={MODES} and mixed recipes need ai-edge-quantizer: "
            f'pip install "lingxi[{EXTRA}]"'
        ) from error


# Recipes


def _recipe(quantize, model):
    """A `RecipeManager`; of its rules the last that fits a layer counts, of ours the first."""
    recipe = _tool("recipe_manager").RecipeManager()
    if not isinstance(quantize, dict):
        quantize = {REST: quantize}
    layers = _layers(model)
    for pattern, mode in sorted(quantize.items(), key=lambda item: item[0] == REST)[::-1]:
        expression = _expression(pattern)
        if not any(re.search(expression, name) for name in layers):
            raise ValueError(
                f"the pattern {pattern!r} in quantize fits no layer with {FEWEST_WEIGHTS} weights "
                f"and more; their names are {', '.join(layers)}"
            )
        for operation, config, algorithm in _rules(mode):
            recipe.add_quantization_config(expression, operation, config, algorithm)
    return recipe


def _rules(mode):
    """`(operation, config, algorithm)` of each operation that `mode` changes."""
    typing = _tool("qtyping")
    algorithms = _tool("algorithm_manager").AlgorithmName

    def config(bits, computes="INTEGER", dtype="INT", **settings):
        return typing.OpQuantizationConfig(
            weight_tensor_config=typing.TensorQuantizationConfig(
                num_bits=bits,
                symmetric=True,
                granularity=typing.QuantGranularity.CHANNELWISE,
                dtype=typing.TensorDataType[dtype],
            ),
            compute_precision=typing.ComputePrecision[computes],
            explicit_dequantize=computes == "FLOAT",
            **settings,
        )

    def rules(names, config, algorithm=algorithms.MIN_MAX_UNIFORM_QUANT):
        return [(typing.TFLOperationName(name), config, algorithm) for name in names]

    large = {"min_weight_elements": FEWEST_WEIGHTS}
    if mode is None:
        return rules([LOOKUP, *PRODUCTS], None, algorithms.NO_QUANTIZE)
    if mode == "float16":
        half = config(16, "FLOAT", "FLOAT", **large)
        return rules([LOOKUP, *PRODUCTS], half, algorithms.FLOAT_CASTING)
    if mode == "int4":
        return rules([LOOKUP, *PRODUCTS_OF_4_BITS], config(4, **large))
    lookups = rules([LOOKUP], config(8, **large))  # which computes nothing: rows become floats
    if mode == "int8_weights":
        return lookups + rules(PRODUCTS, config(8, "FLOAT", **large))
    if mode == "int8_static":
        values = typing.TensorQuantizationConfig(num_bits=8, symmetric=False)
        return lookups + rules(STATIC, config(8, activation_tensor_config=values))
    return lookups + rules(PRODUCTS, config(8, **large))


def _expression(pattern):
    return ".*" if pattern == REST else pattern


def _layers(model):
    """Names, as patterns are compared with, of the operations that hold enough weights."""
    scope = _tool("utils.tfl_flatbuffer_utils").get_op_scope
    names = {getattr(schema.BuiltinOperator, name) for name in (LOOKUP, *PRODUCTS)}
    found = []
    for graph in model.subgraphs:
        for operator in graph.operators:
            if model.operatorCodes[operator.opcodeIndex].builtinCode in names:
                weights = graph.tensors[operator.inputs[1]]
                if np.prod(weights.shape) >= FEWEST_WEIGHTS:
                    found.append(scope(operator, graph.tensors))
    return found


# What the quantizer wants of a model


def _rename(model):
    """Tensors named after their layers, no two of them alike.

    Keras enters the scope of each layer twice, so that TensorFlow calls `block_0` `block_0_1`; and
    the names in several signatures, or in loops, are the same.
    """
    seen = set()
    for number, graph in enumerate(model.subgraphs):
        for index, tensor in enumerate(graph.tensors):
            parts = [part.split("/") for part in tensor.name.decode().split(";")]
            name = ";".join(
                "/".join([*(re.sub(r"_\d+$", "", scope) for scope in scopes), last])
                for *scopes, last in parts
            )
            if name in seen:
                name += f";{number}_{index}"
            seen.add(name)
            tensor.name = name.encode()


def _look_up(model):
    """Turn each GATHER of rows of a constant table into EMBEDDING_LOOKUP.

    That takes ids `[n]` and gives `[n, hidden]`; a RESHAPE before and one behind keep the shapes.
    """
    for graph in model.subgraphs:
        operators = []
        for operator in graph.operators:
            operators += _lookup_of(operator, graph, model) or [operator]
        graph.operators = operators


def _lookup_of(operator, graph, model):
    """The operators in place of one, or None if that looks up no rows of a large table."""
    code = model.operatorCodes[operator.opcodeIndex].builtinCode
    if code != schema.BuiltinOperator.GATHER:
        return None
    options = operator.builtinOptions
    table, ids = (graph.tensors[index] for index in operator.inputs)
    rows = graph.tensors[operator.outputs[0]]
    kinds = schema.TensorType
    if (
        (table.type, ids.type) != (kinds.FLOAT32, kinds.INT32)
        or model.buffers[table.buffer].data is None
        or len(table.shape) != 2
        or np.prod(table.shape) < FEWEST_WEIGHTS
        or options.axis != 0
        or options.batchDims != 0
        or sum(size < 0 for size in _signature(rows)) > 1  # RESHAPE finds but one by itself
    ):
        return None
    lookup = schema.OperatorT()
    lookup.opcodeIndex = _code(model, schema.BuiltinOperator.EMBEDDING_LOOKUP)
    lookup.inputs, lookup.outputs = [operator.inputs[1], operator.inputs[0]], operator.outputs
    if len(ids.shape) == 1:
        return [lookup]
    count = np.prod(ids.shape)
    known = -1 if min(_signature(ids)) < 0 else count
    width = table.shape[1]
    flat_ids = _tensor(graph, ids.name + b";flat", kinds.INT32, [count], [known])
    flat_rows = _tensor(
        graph, rows.name + b";lookup", kinds.FLOAT32, [count, width], [known, width]
    )
    lookup.inputs, lookup.outputs = [flat_ids, operator.inputs[0]], [flat_rows]
    return [
        _reshape(model, graph, operator.inputs[1], flat_ids),
        lookup,
        _reshape(model, graph, flat_rows, operator.outputs[0]),
    ]


def _signature(tensor):
    return tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature


def _code(model, builtin):
    """The index of a builtin operator's code in the model, which gets one if it has none."""
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == builtin:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _tensor(graph, name, kind, shape, signature=None, buffer=0):
    """The index of a new tensor; in its signature, sizes that are not known are -1."""
    tensor = schema.TensorT()
    tensor.name, tensor.type, tensor.shape, tensor.buffer = name, kind, shape, buffer
    tensor.shapeSignature, tensor.hasRank = signature, True
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _reshape(model, graph, source, target):
    """A RESHAPE of one tensor to the shape of another."""
    shape = np.array(_signature(graph.tensors[target]), np.int32)
    buffer = schema.BufferT()
    buffer.data = shape.view(np.uint8)
    model.buffers.append(buffer)
    name = graph.tensors[target].name + b";shape"
    place = len(model.buffers) - 1
    wanted = _tensor(graph, name, schema.TensorType.INT32, [shape.size], buffer=place)
    operator = schema.OperatorT()
    operator.opcodeIndex = _code(model, schema.BuiltinOperator.RESHAPE)
    operator.inputs, operator.outputs = [source, wanted], [target]
    operator.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    operator.builtinOptions = schema.ReshapeOptionsT()
    operator.builtinOptions.newShape = shape
    return operator
