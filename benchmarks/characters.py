"""What the Chinese benchmarks share: an encoder of characters with random weights."""

import collections

from lingxi.text import WordPieceTokenizer
from lingxi.zoo import Bert, BertConfig

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MAX_LENGTH = 256


def encoder(texts, pooler=False):
    """Four blocks of width 192, 1.8 M parameters, and a vocabulary of the texts' characters.

    A character that occurs once is left to "[UNK]", which so learns to stand for a rare one.

    Returns:
        `(backbone, tokenizer)`.
    """
    counts = collections.Counter(c for text in texts for c in text.lower() if not c.isspace())
    characters = sorted(c for c, count in counts.items() if count > 1)
    letters = [f"##{c}" for c in characters if c.isascii() and c.isalnum()]
    tokenizer = WordPieceTokenizer([*SPECIALS, *characters, *letters], max_length=MAX_LENGTH)
    config = BertConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_dim=192,
        num_layers=4,
        num_heads=6,
        intermediate_dim=768,
        max_length=MAX_LENGTH,
        dropout=0.2,
        pooler=pooler,
    )
    return Bert(config), tokenizer
