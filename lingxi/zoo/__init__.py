"""Architectures, presets and checkpoints, in pure `keras.ops`."""

from lingxi.zoo.bert import Bert, BertConfig
from lingxi.zoo.checkpoint import CheckpointError
from lingxi.zoo.gpt import Gpt, GptConfig
from lingxi.zoo.loftr import Loftr, LoftrConfig
from lingxi.zoo.t5 import T5, T5Config
from lingxi.zoo.transformer import Transformer, TransformerConfig

__all__ = [
    "T5",
    "Bert",
    "BertConfig",
    "CheckpointError",
    "Gpt",
    "GptConfig",
    "Loftr",
    "LoftrConfig",
    "T5Config",
    "Transformer",
    "TransformerConfig",
]
