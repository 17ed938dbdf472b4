"""A small question answerer, and questions that it learns to answer."""

import random

import keras

from lingxi.tasks import QuestionAnswerer
from lingxi.text import WordPieceTokenizer
from lingxi.zoo import Bert, BertConfig

ADJECTIVES = ("bad", "poor", "dull", "awful", "cold", "good", "great", "fine", "lovely", "warm")
FILLERS = ("the", "film", "story", "was", "of", "river", "and", "music")
QUESTION = "how was it"


def tiny_answerer(vocabulary, config=(), **kwargs):
    """A new question answerer with the same random weights each time."""
    keras.utils.set_random_seed(7)
    sizes = {
        "vocab_size": len(vocabulary),
        "hidden_dim": 32,
        "num_layers": 1,
        "num_heads": 2,
        "intermediate_dim": 64,
        "max_length": 32,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "initializer_range": 0.2,
    }
    backbone = Bert(BertConfig(**sizes | dict(config)))
    return QuestionAnswerer(backbone, WordPieceTokenizer(vocabulary, max_length=32), **kwargs)


def toy_questions(count=48, most=12, seed=0, answered=1.0):
    """Questions, contexts, and answers: the one adjective of each context, if it has one."""
    generator = random.Random(seed)
    contexts, answers = [], []
    for _ in range(count):
        before = " ".join(generator.choices(FILLERS, k=generator.randrange(most)))
        after = " ".join(generator.choices(FILLERS, k=generator.randrange(1, most)))
        word = generator.choice(ADJECTIVES)
        if generator.random() < answered:
            contexts.append(f"{before} {word} {after}")
            answers.append([(word, len(before) + 1)])
        else:
            contexts.append(f"{before} {after}")
            answers.append([])
    return [QUESTION] * count, contexts, answers
