"""A toy task that any working classifier learns."""

import random

import pytest

NEGATIVE = ("bad", "poor", "dull", "awful", "cold")
POSITIVE = ("good", "great", "fine", "lovely", "warm")


@pytest.fixture(scope="session")
def toy():
    """Texts of different lengths and their labels, which one word of each text decides."""
    generator = random.Random(0)
    texts, labels = [], []
    for index in range(64):
        label, words = (("negative", NEGATIVE), ("positive", POSITIVE))[index % 2]
        before, after = (generator.randrange(5) for _ in range(2))
        texts.append(" ".join(["the"] * before + [generator.choice(words)] + ["film"] * after))
        labels.append(label)
    return texts, labels


@pytest.fixture(scope="session")
def few(toy):
    """Some of the toy task: enough where nothing has to be learned."""
    return toy[0][:16], toy[1][:16]


@pytest.fixture
def learner(tiny_classifier):
    """A function: a new classifier, compiled to learn the toy task in a few epochs.

    With `eager=True` it trains without building graphs: faster for the few steps of most tests.
    """
    from lingxi.training import AdamW

    def make(eager=True, **kwargs):
        classifier = tiny_classifier(**kwargs)
        classifier.compile(AdamW(3e-3), run_eagerly=eager)
        return classifier

    return make
