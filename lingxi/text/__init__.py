"""Strings in, token ids out, inside the TensorFlow graph."""

from lingxi.text.wordpiece import WordPieceTokenizer

__all__ = ["WordPieceTokenizer"]
