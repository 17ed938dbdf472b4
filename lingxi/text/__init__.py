"""Strings in, token ids out, inside the TensorFlow graph."""

from lingxi.text.byte_bpe import ByteBpeTokenizer
from lingxi.text.loading import from_directory
from lingxi.text.sentence_piece import SentencePieceTokenizer
from lingxi.text.streaming import TextStream
from lingxi.text.tokenizer import Tokenizer
from lingxi.text.wordpiece import WordPieceTokenizer

__all__ = [
    "ByteBpeTokenizer",
    "SentencePieceTokenizer",
    "TextStream",
    "Tokenizer",
    "WordPieceTokenizer",
    "from_directory",
]
