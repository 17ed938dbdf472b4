import numpy as np
import pytest

from tests.conftest import WORDS

TEXTS = [f"the {word} film" for word in WORDS.split()]


def matrix(answers):
    return np.array([list(answer.probabilities.values()) for answer in answers])


@pytest.fixture
def too_sure(tiny_classifier):
    """A function: a classifier with logits ten times too large, and what it was drawn from."""

    def make(**kwargs):
        task = tiny_classifier(["a", "b", "c"], **kwargs)
        probabilities = matrix(task.classify(TEXTS))
        task.head.set_weights([10 * weight for weight in task.head.get_weights()])
        return task, probabilities, np.random.default_rng(0)

    return make


def test_calibrated_scores_are_as_high_as_the_labels_are_often_right(too_sure):
    task, probabilities, random = too_sure()
    labels = [random.choice(["a", "b", "c"], p=row / row.sum()) for row in probabilities]
    before, loss = task.classify(TEXTS), task.evaluate(TEXTS, labels, verbose=0)[0]
    temperature = task.calibrate(TEXTS, labels)
    after = task.classify(TEXTS)
    assert temperature > 3
    assert [a.label for a in after] == [b.label for b in before]
    assert task.evaluate(TEXTS, labels, verbose=0)[0] < loss
    assert task.calibrate(TEXTS, labels) == pytest.approx(1.0, abs=0.01)


def test_several_labels_a_text_keep_their_side_of_a_half(too_sure):
    task, probabilities, random = too_sure(multi_label=True)
    labels = (random.random(probabilities.shape) < probabilities).astype(int)
    before = matrix(task.classify(TEXTS))
    assert task.calibrate(TEXTS, labels) > 3
    np.testing.assert_array_equal(matrix(task.classify(TEXTS)) >= 0.5, before >= 0.5)


def test_a_head_with_lora_weights_is_refused(too_sure):
    task, _, _ = too_sure()
    task.head.enable_lora(2)
    with pytest.raises(ValueError, match="merge_lora"):
        task.calibrate(TEXTS, ["a"] * len(TEXTS))
