"""Other ways to learn from a pretrained encoder than to train all of it."""

import numpy as np
import pytest

from tests.tasks.roberta import roberta_classifier

TEXTS = ["a good film", "a great story", "bad music", "a poor and dull day"] * 8
LABELS = ["positive", "positive", "negative", "negative"] * 8


@pytest.fixture(params=["bert", "roberta"])
def classifier(request, tiny_classifier):
    return tiny_classifier() if request.param == "bert" else roberta_classifier()


def test_only_the_head_learns_from_features(classifier):
    backbone = [np.array(weight) for weight in classifier.backbone.weights]
    history = classifier.fit_head(
        TEXTS,
        LABELS,
        validation_data=(TEXTS[:4], LABELS[:4]),
        epochs=60,
        learning_rate=0.01,
        seed=1,
        verbose=0,
    ).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["val_accuracy"][-1] == 1.0
    for weight, before in zip(classifier.backbone.weights, backbone, strict=True):
        np.testing.assert_array_equal(weight, before)
    assert [answer.label for answer in classifier.classify(TEXTS[:4])] == LABELS[:4]


def test_features_and_outputs_are_the_model(classifier):
    inputs = classifier.tokenizer(TEXTS[:4])
    outputs = classifier.outputs(classifier.features(inputs))
    np.testing.assert_allclose(outputs, classifier(inputs), atol=1e-6)


def test_a_frozen_backbone_stays_as_it_is(classifier):
    classifier.backbone.trainable = False
    before = [np.array(weight) for weight in classifier.backbone.weights]
    head = np.array(classifier.head.kernel)
    classifier.fit(TEXTS, LABELS, verbose=0)
    for weight, old in zip(classifier.backbone.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)
    assert np.abs(np.array(classifier.head.kernel) - head).max() > 0


def test_labels_are_added_without_losing_the_old_ones(classifier):
    more = classifier.with_labels(["question", "spam"])
    assert more.labels == ["negative", "positive", "question", "spam"]
    inputs = classifier.tokenizer(TEXTS[:4])
    np.testing.assert_allclose(more(inputs)[:, :2], classifier(inputs), atol=1e-6)
    more.fit([*TEXTS, "who is it"], [*LABELS, "question"], verbose=0)
    assert set(more.classify(["why"])[0].probabilities) == set(more.labels)
    with pytest.raises(ValueError, match="distinct"):
        more.with_labels(["spam"])


def test_nothing_to_learn_from_is_an_error(classifier):
    with pytest.raises(ValueError, match="got no texts"):
        classifier.fit_head([], [])
