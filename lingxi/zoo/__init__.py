"""Architectures, presets and checkpoints, in pure `keras.ops`."""

from lingxi.zoo.bert import Bert, BertConfig
from lingxi.zoo.checkpoint import CheckpointError
from lingxi.zoo.gpt import Gpt, GptConfig

__all__ = ["Bert", "BertConfig", "CheckpointError", "Gpt", "GptConfig"]
