"""A classifier reads with whatever tokenizer its backbone has: here RoBERTa's."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from lingxi.tasks import TextClassifier
from lingxi.text import ByteBpeTokenizer
from lingxi.training import AdamW
from lingxi.zoo import BertConfig
from tests.tasks.roberta import roberta_classifier, tiny_tokenizer

TEXTS = ["a good film", "", "naïve 你好 👍", "the river " * 50]
PAIRS = list(zip(TEXTS, TEXTS[::-1], strict=True))


@pytest.fixture(scope="module")
def classifier():
    """Do not change it."""
    return roberta_classifier()


def assert_same_answers(found, wanted):
    assert type(found.tokenizer) is type(wanted.tokenizer)
    assert found.tokenizer.get_config() == wanted.tokenizer.get_config()
    for texts in (TEXTS, PAIRS):
        ours, theirs = (c.predict(texts, verbose=0) for c in (found, wanted))
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_it_learns_from_raw_texts(toy):
    texts, labels = toy
    classifier = roberta_classifier()
    classifier.compile(AdamW(3e-3))
    classifier.fit(texts, labels, validation_data=toy, epochs=20, batch_size=8, seed=0, verbose=0)
    assert [answer.label for answer in classifier.classify(texts)] == labels
    assert classifier.evaluate(texts, labels, verbose=0)[1] == 1.0


def test_it_learns_from_pairs_and_data_sets(few):
    texts, labels = few
    pairs = (texts, texts[::-1])
    data = tf.data.Dataset.from_tensor_slices((pairs, labels))
    classifier = roberta_classifier()
    wanted = classifier.evaluate(pairs, labels, verbose=0)
    np.testing.assert_allclose(classifier.evaluate(data, verbose=0), wanted, rtol=1e-4)
    assert classifier.fit(data, validation_data=data, verbose=0).history["val_loss"][0] < wanted[0]


def test_the_second_text_counts_and_so_does_the_order(classifier):
    scores = [
        classifier.predict([pair], verbose=0)
        for pair in (("good", "bad"), ("bad", "good"), ("good", "film"))
    ]
    assert min(np.abs(a - b).max() for a, b in itertools.combinations(scores, 2)) > 1e-3


def test_padding_changes_no_answer(classifier):
    together = classifier.predict(TEXTS, verbose=0)
    alone = [classifier.predict([text], verbose=0)[0] for text in TEXTS]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_it_takes_what_its_tokenizer_gives(classifier, tiny_classifier):
    assert list(classifier.tokenized_signature()) == ["token_ids", "padding_mask"]
    for task in (classifier, tiny_classifier()):
        inputs, signature = task.tokenizer(["a film"]), task.tokenized_signature(1)
        assert list(inputs) == list(signature)
        assert all(spec.is_compatible_with(inputs[name]) for name, spec in signature.items())


def test_a_keras_file_is_the_same(classifier, tmp_path):
    classifier.save(tmp_path / "classifier.keras")
    assert_same_answers(keras.saving.load_model(tmp_path / "classifier.keras"), classifier)


def test_a_preset_is_the_same(classifier, tmp_path):
    classifier.save_preset(tmp_path / "preset")
    assert {path.name for path in (tmp_path / "preset").iterdir()} == {
        "config.json",
        "merges.txt",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer_config.json",
        "vocab.json",
    }
    assert_same_answers(TextClassifier.from_preset(tmp_path / "preset"), classifier)


@pytest.mark.parametrize("as_directory", [True, False], ids=["directory", "tokenizer"])
def test_a_size_takes_any_tokenizer(tmp_path, monkeypatch, as_directory):
    monkeypatch.setitem(
        TextClassifier.architectures[0].presets,
        "roberta_tiny",
        BertConfig("roberta", 2000, 16, 1, 1, 16, 64, num_segments=1, position_offset=2, pad_id=1),
    )
    vocabulary = tiny_tokenizer()
    vocabulary.save(tmp_path)
    classifier = TextClassifier.from_preset(
        "roberta_tiny", ["no", "yes"], vocabulary=tmp_path if as_directory else vocabulary
    )
    assert type(classifier.tokenizer) is ByteBpeTokenizer
    assert classifier.max_length == (64 if as_directory else vocabulary.max_length)
    assert len(classifier.classify(TEXTS)) == len(TEXTS)


def test_a_pair_needs_room_for_its_four_special_tokens():
    with pytest.raises(ValueError, match="max_length must be from 4 to 32 .*got 3"):
        roberta_classifier(max_length=3)
    shortest = roberta_classifier(max_length=4)
    assert len(shortest.classify(PAIRS)) == len(PAIRS)


@pytest.mark.parametrize("max_length", [3.0, "8", [8]])
def test_a_max_length_is_a_whole_number(tiny_classifier, max_length):
    with pytest.raises(TypeError, match="max_length must be a whole number of tokens, got"):
        tiny_classifier(max_length=max_length)


def test_a_max_length_may_be_of_numpy(tiny_classifier):
    assert type(tiny_classifier(max_length=np.int64(8)).max_length) is int
