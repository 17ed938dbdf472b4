"""Architectures, presets and checkpoints, in pure `keras.ops`."""

from lingxi.zoo.bert import Bert, BertConfig
from lingxi.zoo.checkpoint import CheckpointError

__all__ = ["Bert", "BertConfig", "CheckpointError"]
