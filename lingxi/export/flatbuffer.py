"""TFLite files as the objects of their schema, and back."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_IDENTIFIER = b"TFL3"
_ALIGNMENT = 16  # bytes, of the weights in a file: interpreters read them in place


def unpack(content):
    """The `ModelT` of the content of a TFLite file, with all buffers inside."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    for buffer in model.buffers:
        if buffer.size:  # ai-edge-quantizer may put data behind the flatbuffer
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def pack(model):
    """The content of a TFLite file, with equal vectors stored once.

    Equal are most zero points of channels, and the weights that several signatures read.
    """
    builder = _SharingBuilder()
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


class _SharingBuilder(flatbuffers.Builder):
    def __init__(self):
        super().__init__()
        self._offsets = {}

    def CreateNumpyVector(self, x):
        key = x.dtype, x.tobytes()
        if key not in self._offsets:
            self.Prep(_ALIGNMENT, x.nbytes)
            self._offsets[key] = super().CreateNumpyVector(x)
        return self._offsets[key]
