"""Data sets that call Python give up what they hold when they go, and not before."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from lingxi.python_functions import from_generator, mapped
from lingxi.tasks import language_data, masking
from lingxi.text import WordPieceTokenizer


class Numbers:
    """Something large, in real life."""

    def __init__(self):
        self.values = np.arange(6)

    def all(self):
        yield from self.values

    def squared(self, index):
        return self.values[index] ** 2


SIGNATURE = tf.TensorSpec([], tf.int64)


def generated(numbers):
    return from_generator(numbers.all, SIGNATURE)


def looked_up(numbers):
    return mapped(tf.data.Dataset.range(6), numbers.squared, SIGNATURE)


@pytest.mark.parametrize("make", [generated, looked_up])
def test_what_a_data_set_calls_goes_with_it(make):
    numbers = Numbers()
    held = weakref.ref(numbers)
    dataset = make(numbers).repeat().batch(4).prefetch(2)
    del numbers
    gc.collect()
    first = next(iter(dataset)).numpy().tolist()
    assert first == [0, 1, 2, 3] or first == [0, 1, 4, 9]
    assert held() is not None
    iterator = iter(dataset)
    del dataset
    gc.collect()
    next(iterator)  # an iterator keeps its data set
    del iterator
    gc.collect()
    assert held() is None


@pytest.fixture
def documents():
    return ["the film was good\nrice and tea", "a river"] * 8


@pytest.fixture
def tokenizer(vocabulary):
    return WordPieceTokenizer(vocabulary, max_length=16, special_tokens={"eos": "[SEP]"})


def blocks(documents, tokenizer):
    return language_data.blocks(documents, tokenizer, 4, 2, shuffle=True, seed=1)


def masked(documents, tokenizer):
    masks = masking.Masking(tokenizer)
    return masking.examples(documents, tokenizer, masks, 16, 2, False, True, seed=1, repeat=False)


@pytest.mark.parametrize("make", [blocks, masked])
def test_tokens_go_with_their_data_set(make, documents, tokenizer, monkeypatch):
    held, concatenated = [], language_data.in_memory

    def in_memory(parts):
        arrays = concatenated(parts)
        held.append(weakref.ref(arrays["tokens"]))
        return arrays

    for module in (language_data, masking):
        monkeypatch.setattr(module, "in_memory", in_memory)
    dataset = make(documents, tokenizer)
    batches = len(list(dataset))
    assert batches and len(list(dataset)) == batches
    del dataset
    gc.collect()
    assert len(held) == 1 and held[0]() is None
