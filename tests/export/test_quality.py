"""`lingxi.export.quality`: the measures of `lingxi evaluate` and of sweeps."""

import math

import numpy as np
import pytest

from lingxi.export import quality


def test_measures_by_hand():
    targets = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]], bool)
    probabilities = np.array([[0.5, 0.4, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.3, 0.6, 0.1]])
    report = quality.of_labels(targets, probabilities, ["a", "b", "c"], multi_label=False)
    assert report["accuracy"] == 0.75
    assert report["loss"] == pytest.approx(-np.mean(np.log([0.5, 0.2, 0.8, 0.6])))
    assert report["labels"]["a"] == {
        "precision": 1,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
        "support": 2,
    }
    assert report["labels"]["b"]["precision"] == pytest.approx(2 / 3)
    assert report["labels"]["c"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}
    assert report["macro_f1"] == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)

    several = quality.of_labels(targets, probabilities, ["a", "b", "c"], multi_label=True)
    assert several["accuracy"] == pytest.approx(10 / 12)
    assert math.isfinite(several["loss"])
    certain = quality.of_labels(targets, 1.0 - targets, ["a", "b", "c"], multi_label=True)
    assert math.isfinite(certain["loss"])


def test_correlations_by_hand():
    found = quality.correlations(np.array([1.0, 2.0, 2.0, 9.0]), np.array([0.0, 1.0, 3.0, 4.0]))
    assert found["pearson"] == pytest.approx(np.corrcoef([1, 2, 2, 9], [0, 1, 3, 4])[0, 1])
    assert found["spearman"] == pytest.approx(np.corrcoef([1, 2.5, 2.5, 4], [1, 2, 3, 4])[0, 1])
    constant = quality.correlations(np.ones(3), np.arange(3.0))
    assert constant == {"pearson": 0.0, "spearman": 0.0}


class Answers:
    """A classifier that gives the same answer to all texts."""

    def classify(self, texts):
        from lingxi.answers.classification import classifications

        return classifications(np.array([[0.9, 0.1]] * len(texts)), ["a", "b"], False)


FACTS = {"labels": ["a", "b"], "multi_label": False}


def test_a_classifier_is_asked_for_all_texts():
    report = quality.measured(Answers(), "classify", FACTS, ["x", "y", "z"], ["a", "b", "a"])
    assert report["examples"] == 3
    assert report["accuracy"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("verb", "labels", "message"),
    [
        ("classify", ["a"], "got 2 examples and 1 right answers"),
        ("classify", ["a", "c"], r"\['c'\] are none of \['a', 'b'\]"),
        ("translate", ["a", "b"], "no measure for a task that can translate; there are for answer"),
    ],
)
def test_what_cannot_be_measured_is_refused(verb, labels, message):
    with pytest.raises(ValueError, match=message):
        quality.measured(Answers(), verb, FACTS, ["x", "y"], labels)
