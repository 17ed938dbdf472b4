"""A regressor learns numbers of texts and of pairs, and its artifacts give the same ones."""

import keras
import numpy as np
import pytest

import lingxi
from lingxi.tasks import TextClassifier, TextRegressor
from lingxi.text import WordPieceTokenizer
from lingxi.zoo import Bert, BertConfig

GOOD, BAD = ("good", "great", "fine"), ("bad", "poor", "dull")


def data(count=300):
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice([*GOOD, *BAD], 4)) for _ in range(count)]
    return texts, [sum((w in GOOD) - (w in BAD) for w in text.split()) / 4 for text in texts]


def new_task(vocabulary):
    keras.utils.set_random_seed(2)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_dim=32,
        num_layers=1,
        num_heads=2,
        intermediate_dim=64,
        max_length=32,
        dropout=0.0,
        initializer_range=0.2,
    )
    return TextRegressor(Bert(config), WordPieceTokenizer(vocabulary, max_length=32))


@pytest.fixture(scope="module")
def trained(vocabulary):
    task = new_task(vocabulary)
    task.fit(*data(), epochs=6, learning_rate=3e-3, seed=1, verbose=0)
    return task


def test_it_learns_numbers(trained):
    texts = ["good great fine good", "bad dull poor bad", "good bad fine poor"]
    np.testing.assert_allclose(trained.rate(texts), [1.0, -1.0, 0.0], atol=0.2)
    scores = trained.evaluate(*data(50), return_dict=True, verbose=0)
    assert scores["pearson"] > 0.97
    assert scores["mae"] < 0.1


def test_pairs_are_rated(vocabulary):
    task = new_task(vocabulary)
    task.fit([("good", "bad"), ("fine", "fine")], [0.0, 1.0], verbose=0)
    assert len(task.rate([("good", "fine")])) == 1


def test_presets_and_keras_files_keep_everything(trained, tmp_path):
    texts = data(10)[0]
    trained.save_preset(tmp_path / "preset")
    trained.save(tmp_path / "model.keras")
    for again in (
        TextRegressor.from_preset(str(tmp_path / "preset")),
        keras.saving.load_model(tmp_path / "model.keras"),
    ):
        np.testing.assert_allclose(again.rate(texts), trained.rate(texts), atol=1e-6)


def test_another_head_starts_anew(tiny_classifier, tmp_path):
    classifier = tiny_classifier()
    classifier.save_preset(tmp_path)
    task = TextRegressor.from_preset(str(tmp_path))
    assert task.head.kernel.shape[-1] == 1
    assert isinstance(classifier, TextClassifier)


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        ([1.0, "x"], TypeError, "'x' for text 1"),
        ([1.0, None], TypeError, "None for text 1"),
        ([float("nan"), 1.0], ValueError, "nan for text 0"),
        ([1.0], ValueError, "got 2 texts, but 1 numbers"),
    ],
)
def test_bad_numbers_are_named(vocabulary, y, error, message):
    with pytest.raises(error, match=message):
        new_task(vocabulary).fit(["good", "bad"], y, verbose=0)


def test_artifacts_give_the_same_numbers(trained, tmp_path):
    texts = data(10)[0]
    lingxi.export.saved_model(trained, tmp_path / "model")
    lingxi.export.tflite(trained, tmp_path / "model.tflite")
    for path in (tmp_path / "model", tmp_path / "model.tflite"):
        found = lingxi.export.load(path).rate(texts)
        np.testing.assert_allclose(found, trained.rate(texts), atol=1e-5)
