"""Strings in, token ids out, inside the TensorFlow graph.

Each name is imported when it is first asked for: the files of a tokenizer, and WordPiece in plain
Python, are read where there is no TensorFlow.
"""

import importlib

_HOMES = {
    "Augmentation": "augmentation",
    "ByteBpeTokenizer": "byte_bpe",
    "Chain": "augmentation",
    "KeyboardNoise": "augmentation",
    "OcrNoise": "augmentation",
    "RandomDeletion": "augmentation",
    "RandomReplacement": "augmentation",
    "RandomSwap": "augmentation",
    "SentencePieceTokenizer": "sentence_piece",
    "Synonyms": "augmentation",
    "TextStream": "streaming",
    "Tokenizer": "tokenizer",
    "WordPieceTokenizer": "wordpiece",
    "from_directory": "loading",
}
__all__ = list(_HOMES)


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"lingxi.text.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'lingxi.text' has no attribute {name!r}")
