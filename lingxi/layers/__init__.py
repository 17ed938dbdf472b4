"""Reusable Keras layers in pure `keras.ops`: they run on every Keras backend."""

from lingxi.layers.activation import get_activation
from lingxi.layers.attention import MultiHeadAttention
from lingxi.layers.dense import Dense
from lingxi.layers.embedding import (
    PositionEmbedding,
    SegmentEmbedding,
    SinusoidalPosition,
    TokenEmbedding,
)
from lingxi.layers.encoder_block import EncoderBlock
from lingxi.layers.feed_forward import FeedForward
from lingxi.layers.layer_norm import LayerNorm
from lingxi.layers.pooler import Pooler

__all__ = [
    "Dense",
    "EncoderBlock",
    "FeedForward",
    "LayerNorm",
    "MultiHeadAttention",
    "Pooler",
    "PositionEmbedding",
    "SegmentEmbedding",
    "SinusoidalPosition",
    "TokenEmbedding",
    "get_activation",
]
