"""Functions of strings in a TFLite interpreter."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_text import tflite_registrar


def interpreter_of(function, signature, kernels):
    """An interpreter of `function` with kernels of TensorFlow Text; the file's operations."""
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert")
    module = tf.Module()
    module.function = tf.function(function, input_signature=signature, autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.function.get_concrete_function()], module
    )
    converter.allow_custom_ops = True
    interpreter = litert.InterpreterWithCustomOps(
        model_content=converter.convert(),
        custom_op_registerers=[getattr(tflite_registrar, name) for name in kernels],
    )
    return interpreter, {op["op_name"] for op in interpreter._get_ops_details()}


def run(interpreter, *inputs):
    """The output for inputs of any batch size; lists of str are encoded."""
    details = interpreter.get_input_details()
    arrays = [
        np.array([text.encode() for text in values], object) if isinstance(values, list) else values
        for values in inputs
    ]
    for detail, array in zip(details, arrays, strict=True):
        interpreter.resize_tensor_input(detail["index"], array.shape)
    interpreter.allocate_tensors()
    for detail, array in zip(details, arrays, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
