"""The graph of an ONNX file, run by onnxruntime: token ids in, a dict of arrays out."""

import numpy as np

from lingxi.export.packed_tokenizer import PackedTokenizer

SAME_NAME = "_out"  # ends an output's name that would be an input's, which ONNX does not allow


class OnnxGraph(PackedTokenizer):
    """An ONNX file written by `lingxi.export.onnx`, and its tokenizer."""

    takes_text = False

    def __init__(self, path, facts):
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(f"{path} is run by onnxruntime: pip install onnxruntime") from error
        self.path = path
        self.session = onnxruntime.InferenceSession(
            str(path), providers=onnxruntime.get_available_providers()
        )

    def run_ids(self, inputs, **options):
        """A dict of arrays `[batch, …]` for what a tokenizer gives."""
        if options:
            raise ValueError(f"an ONNX file has no options, got {sorted(options)}")
        taken = (spec.name for spec in self.session.get_inputs())
        values = self.session.run(None, {name: np.asarray(inputs[name]) for name in taken})
        outputs = (spec.name.removesuffix(SAME_NAME) for spec in self.session.get_outputs())
        return dict(zip(outputs, values, strict=True))

    def describe_signatures(self):
        """`{signature: (inputs, outputs)}`, each `{name: "dtype[shape]"}`."""
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        return {"serving_default": (_specs(inputs), _specs(outputs))}


def _specs(tensors):
    return {
        spec.name: f"{_dtype(spec.type)}[{', '.join(map(str, spec.shape))}]"
        for spec in sorted(tensors, key=lambda spec: spec.name)
    }


def _dtype(kind):
    """NumPy's name of a type such as "tensor(float)"."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)
