"""A small trained classifier, and its artifacts, each exported once for all tests."""

import functools
import importlib
import random

import numpy as np
import pytest

LABELS = ("schlecht 👎", "很好")  # any Unicode
BAD = ("bad", "poor", "dull", "awful", "cold")
GOOD = ("good", "great", "fine", "lovely", "warm")

# Of every kind: empty, words of the training, unknown words, other scripts, too long for the model.
TEXTS = [
    "a lovely film",
    "",
    "the story was dull and cold",
    "Great MUSIC, fine actor!",
    "École naïve Привет 你好 👍",
    "the film is " * 30 + "awful",
    "z" * 200,
    "a tab\tand a zero \0 byte",
    "   ",
    "poor",
]
PAIRS = [(text, TEXTS[-1 - i]) for i, text in enumerate(TEXTS)]

FORMATS = {
    "saved_model": ("saved_model", {}),
    "tflite_text": ("tflite", {"input": "text"}),
    "tflite_ids": ("tflite", {"input": "ids"}),
}


def module(name):
    """The module `lingxi.export.<name>`, which a function of the same name hides."""
    return importlib.import_module(f"lingxi.export.{name}")


def matrix(answers):
    """The probabilities of a list of `Classification`: `[texts, labels]`."""
    return np.array([list(answer.probabilities.values()) for answer in answers])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="session", autouse=True)
def few_timed_runs():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module("verification"), "TIMED_RUNS", 3)
        yield


@pytest.fixture(scope="session")
def toy():
    """Texts and their labels, which one word of each decides."""
    generator = random.Random(0)
    texts, labels = [], []
    for index in range(64):
        word = generator.choice((BAD, GOOD)[index % 2])
        before, after = generator.randrange(5), generator.randrange(5)
        texts.append(" ".join(["the"] * before + [word] + ["film"] * after))
        labels.append(LABELS[index % 2])
    return texts, labels


@pytest.fixture(scope="session")
def new_classifier(tiny_classifier):
    """A function: an untrained classifier, large enough for its weights to outweigh its graph."""

    def make(labels=LABELS, **kwargs):
        sizes = {"hidden_dim": 128, "intermediate_dim": 512, "initializer_range": 0.05}
        return tiny_classifier(labels, config=sizes, **kwargs)

    return make


@pytest.fixture(scope="session")
def classifier(new_classifier, toy):
    """A classifier that has learned the toy task. Do not change it."""
    from lingxi.training import AdamW

    classifier = new_classifier()
    classifier.compile(AdamW(1e-3), run_eagerly=True)
    classifier.fit(*toy, epochs=10, batch_size=16, seed=0, verbose=0)
    found = [answer.label for answer in classifier.classify(toy[0])]
    assert found == toy[1], "the toy task is too hard for this classifier"
    return classifier


@pytest.fixture(scope="session")
def with_head(classifier, new_classifier):
    """A function: `classifier` with another head, from `(kernel, bias)` to `(kernel, bias)`."""

    def make(change):
        other = new_classifier()
        other.set_weights(classifier.get_weights())
        kernel, bias = (np.array(weight) for weight in other.head.get_weights())
        other.head.set_weights(change(kernel, bias))
        return other

    return make


@pytest.fixture(scope="session")
def contrary(with_head):
    """The classifier that says the opposite of `classifier` about every text."""
    return with_head(lambda kernel, bias: (-kernel, -bias))


@pytest.fixture(scope="session")
def exported(classifier, tmp_path_factory):
    """A function: the path of an artifact of `classifier`, and the report of its export."""
    from lingxi import export

    done = {}

    def make(form, **options):
        key = (form, *sorted(options.items()))
        if key not in done:
            path = tmp_path_factory.mktemp("exported") / "classifier"
            if form == "tflite":
                path = path.with_suffix(".tflite")
            report = getattr(export, form)(classifier, path, **options)
            done[key] = (report.path, report)
        return done[key]

    return make


@pytest.fixture(scope="session")
def loaded():
    """A function: the artifact at a path, read once for all tests."""
    from lingxi import export

    return functools.cache(export.load)


@pytest.fixture(params=FORMATS)
def artifact_path(request, exported):
    """An artifact of each kind, one after the other."""
    form, options = FORMATS[request.param]
    return exported(form, **options)[0]


@pytest.fixture(params=FORMATS)
def pairs_path(request, exported):
    """An artifact of each kind that takes pairs."""
    form, options = FORMATS[request.param]
    return exported(form, pairs=True, **options)[0]


@pytest.fixture
def ids_path(exported):
    """The artifact that is read the fastest."""
    return exported("tflite", input="ids")[0]
