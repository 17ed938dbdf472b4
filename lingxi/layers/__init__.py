"""Reusable Keras layers in pure `keras.ops`: they run on every Keras backend."""

from lingxi.layers.activation import get_activation
from lingxi.layers.attention import MultiHeadAttention
from lingxi.layers.crf import LinearChainCrf
from lingxi.layers.dense import Dense
from lingxi.layers.embedding import (
    PositionEmbedding,
    SegmentEmbedding,
    SinusoidalPosition,
    TokenEmbedding,
)
from lingxi.layers.feed_forward import FeedForward
from lingxi.layers.layer_norm import LayerNorm
from lingxi.layers.pooler import Pooler
from lingxi.layers.relative_position import RelativePositionBias
from lingxi.layers.rms_norm import RMSNorm
from lingxi.layers.transformer_block import TransformerBlock

__all__ = [
    "Dense",
    "FeedForward",
    "LayerNorm",
    "LinearChainCrf",
    "MultiHeadAttention",
    "Pooler",
    "PositionEmbedding",
    "RMSNorm",
    "RelativePositionBias",
    "SegmentEmbedding",
    "SinusoidalPosition",
    "TokenEmbedding",
    "TransformerBlock",
    "get_activation",
]
