import numpy as np
import pytest

from lingxi.training import best_temperature
from lingxi.training.calibration import COLDEST, HOTTEST


def examples(temperature, labels=4, count=20_000):
    """Logits, and targets drawn from the softmax of these logits over the temperature."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (count, labels))
    noise = random.gumbel(size=logits.shape)
    return logits, (logits / temperature + noise).argmax(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_finds_the_temperature_that_targets_were_drawn_with(temperature):
    assert best_temperature(*examples(temperature)) == pytest.approx(temperature, rel=0.03)


def test_finds_the_temperature_of_labels_that_do_not_exclude_each_other():
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (20_000, 3))
    targets = random.random(logits.shape) < 1 / (1 + np.exp(-logits / 2))
    assert best_temperature(logits, targets) == pytest.approx(2.0, rel=0.03)


def test_no_lower_temperature_than_the_coldest_where_nothing_is_wrong():
    logits, _ = examples(1.0)
    assert best_temperature(logits, logits.argmax(axis=1)) == pytest.approx(COLDEST)
    assert best_temperature(logits, logits.argmin(axis=1)) == pytest.approx(HOTTEST)


def test_huge_logits_stay_finite():
    logits = np.array([[1e4, -1e4], [-1e4, 1e4], [1e4, -1e4]])
    assert COLDEST <= best_temperature(logits, [0, 1, 1]) <= HOTTEST + 1e-9
