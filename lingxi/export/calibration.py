"""How large the values inside a TFLite file get on real inputs."""

import pathlib
import tempfile

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from lingxi.export import flatbuffer, metadata
from lingxi.export.artifact import load


def ranges(content, facts, tokenizer, examples):
    """`{tensor: {"min", "max"}}` of all floats that the operators of a file make of examples.

    The calibration of ai-edge-quantizer runs no custom operations, and knows no texts.

    Args:
        content: of a float32 TFLite file, as lingxi writes it.
        facts, tokenizer: what the file shall carry.
        examples: what its task takes.

    Raises:
        ValueError: no examples.
    """
    model = flatbuffer.unpack(content)
    graphs = {found.signatureKey.decode(): found.subgraphIndex for found in model.signatureDefs}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "float32.tflite"
        path.write_bytes(content)
        metadata.append(path, facts, tokenizer)
        artifact = load(path)
        examples = artifact.listed(examples)
        if not examples:
            raise ValueError("calibration needs at least one example, got none")
        graph = artifact.graph
        interpreter = graph.open(path, keeps_values=True)

        def watched(signature):
            run, index = interpreter.get_signature_runner(signature), graphs[signature]

            def call(**inputs):
                outputs = run(**inputs)
                _widen(found, model.subgraphs[index], interpreter, index)
                return outputs

            return call

        graph.runner = watched
        artifact.answers_to(examples)
    return found


def _widen(ranges, graph, interpreter, index):
    """`ranges` with the values that an interpreter has just made in a subgraph."""
    for number in (output for operator in graph.operators for output in operator.outputs):
        tensor = graph.tensors[number]
        if tensor.type == schema.TensorType.FLOAT32:
            values = interpreter.get_tensor(number, index)
            ends = {"min": values.min(keepdims=True), "max": values.max(keepdims=True)}
            seen = ranges.setdefault(tensor.name.decode(), ends)
            seen["min"] = np.minimum(seen["min"], ends["min"])
            seen["max"] = np.maximum(seen["max"], ends["max"])
