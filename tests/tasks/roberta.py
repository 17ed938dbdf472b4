"""A small RoBERTa classifier, whose tokenizer is a byte-level BPE of the tests' words."""

import itertools

import keras

from lingxi.tasks import TextClassifier
from lingxi.text import ByteBpeTokenizer
from lingxi.text.byte_bpe import byte_characters
from lingxi.text.byte_bpe_files import ROBERTA_TOKENS
from lingxi.zoo import Bert, BertConfig
from tests.conftest import WORDS

BEFORE, AFTER = ("<s>", "<pad>", "</s>", "<unk>"), ("<mask>",)  # RoBERTa's order


def tokenizer_of(tokens, merges, max_length=32):
    """RoBERTa's tokenizer for a vocabulary of GPT-2's kind."""
    vocabulary = [*BEFORE, *tokens, *AFTER]
    return ByteBpeTokenizer(vocabulary, merges, max_length, ROBERTA_TOKENS)


def tiny_tokenizer():
    """A word of `WORDS` after a space is one token, another is cut into a few."""
    merges = {}
    for word in WORDS.split():
        beginnings = itertools.accumulate(word, initial="Ġ")
        merges.update((f"{left} {x}", None) for left, x in zip(beginnings, word, strict=False))
    tokens = [merge.replace(" ", "") for merge in merges]
    return tokenizer_of([*byte_characters(), *tokens], list(merges))


def roberta_classifier(labels=("negative", "positive"), tokenizer=None, **kwargs):
    """A new classifier with the same random weights each time."""
    tokenizer = tokenizer or tiny_tokenizer()
    keras.utils.set_random_seed(7)
    config = BertConfig(
        model_type="roberta",
        vocab_size=tokenizer.vocab_size,
        hidden_dim=32,
        num_layers=1,
        num_heads=2,
        intermediate_dim=64,
        max_length=32,
        num_segments=1,
        position_offset=2,
        dropout=0.0,
        attention_dropout=0.0,
        norm_epsilon=1e-5,
        initializer_range=0.2,
        pooler=False,
        pad_id=tokenizer.pad_id,
    )
    return TextClassifier(Bert(config), tokenizer, list(labels), **kwargs)
