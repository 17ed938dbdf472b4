"""Reusable Keras layers in pure `keras.ops`: they run on every Keras backend."""

from lingxi.layers.activation import get_activation
from lingxi.layers.attention import MultiHeadAttention
from lingxi.layers.conv_norm import ConvNorm
from lingxi.layers.crf import LinearChainCrf
from lingxi.layers.decoding import decoding_by_tensorflow
from lingxi.layers.dense import Dense
from lingxi.layers.embedding import (
    PositionEmbedding,
    SegmentEmbedding,
    SinusoidalPosition,
    TokenEmbedding,
    changed_embeddings,
    replaced_lookups,
)
from lingxi.layers.feed_forward import FeedForward
from lingxi.layers.layer_norm import LayerNorm
from lingxi.layers.linear_attention import LinearAttention
from lingxi.layers.matching import (
    dual_softmax,
    inside_border,
    mutual_nearest,
    mutual_nearest_blockwise,
)
from lingxi.layers.pair_transformer import MessageBlock, PairTransformer
from lingxi.layers.pooler import Pooler
from lingxi.layers.position_2d import SinusoidalPosition2D
from lingxi.layers.relative_position import RelativePositionBias
from lingxi.layers.rms_norm import RMSNorm
from lingxi.layers.transformer_block import TransformerBlock
from lingxi.layers.windows_2d import expectation_2d, windows_2d

__all__ = [
    "ConvNorm",
    "Dense",
    "FeedForward",
    "LayerNorm",
    "LinearAttention",
    "LinearChainCrf",
    "MessageBlock",
    "MultiHeadAttention",
    "PairTransformer",
    "Pooler",
    "PositionEmbedding",
    "RMSNorm",
    "RelativePositionBias",
    "SegmentEmbedding",
    "SinusoidalPosition",
    "SinusoidalPosition2D",
    "TokenEmbedding",
    "TransformerBlock",
    "changed_embeddings",
    "decoding_by_tensorflow",
    "dual_softmax",
    "expectation_2d",
    "get_activation",
    "inside_border",
    "mutual_nearest",
    "mutual_nearest_blockwise",
    "replaced_lookups",
    "windows_2d",
]
