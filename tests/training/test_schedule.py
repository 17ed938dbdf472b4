"""Warm-up and linear decay."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingxi.training import InverseSquareRoot, WarmupLinearDecay


def rates(schedule, steps):
    return np.array([float(schedule(step)) for step in steps])


def test_the_corners():
    schedule = WarmupLinearDecay(0.8, warmup_steps=4, total_steps=10)
    np.testing.assert_allclose(
        rates(schedule, range(12)),
        0.8 * np.array([1 / 4, 2 / 4, 3 / 4, 1, 6 / 7, 5 / 7, 4 / 7, 3 / 7, 2 / 7, 1 / 7, 0, 0]),
        rtol=1e-6,
        atol=1e-9,
    )


@pytest.mark.parametrize(
    ("warmup", "total", "wanted"),
    [(0, 0, [0]), (1, 1, [1, 0]), (3, 3, [1 / 3, 2 / 3, 1, 0]), (0, 1, [0.5, 0])],
)
def test_the_shortest_schedules(warmup, total, wanted):
    schedule = WarmupLinearDecay(1.0, warmup, total)
    np.testing.assert_allclose(rates(schedule, range(len(wanted))), wanted, atol=1e-7)


@settings(max_examples=20)
@given(warmup=st.integers(1, 15), decay=st.integers(0, 15), peak=st.floats(1e-6, 1))
def test_it_rises_to_the_peak_then_falls_to_zero(warmup, decay, peak):
    schedule = WarmupLinearDecay(peak, warmup, warmup + decay)
    values = rates(schedule, range(warmup + decay + 1))
    assert values[warmup - 1] == pytest.approx(peak)
    assert (np.diff(values[:warmup]) > 0).all()
    assert (np.diff(values[warmup - 1 :]) < 0).all()
    assert values[0] == pytest.approx(peak / warmup)
    assert values[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("steps", [(-1, 5), (6, 5)])
def test_steps_that_do_not_fit_are_named(steps):
    with pytest.raises(ValueError, match=f"got {steps[0]} and {steps[1]}"):
        WarmupLinearDecay(1.0, *steps)


def test_it_is_serialized_with_its_optimizer():
    optimizer = keras.optimizers.SGD(WarmupLinearDecay(0.5, 2, 7))
    config = keras.saving.serialize_keras_object(optimizer)
    schedule = keras.saving.deserialize_keras_object(config)._learning_rate
    assert isinstance(schedule, WarmupLinearDecay)
    assert schedule.get_config() == {"peak": 0.5, "warmup_steps": 2, "total_steps": 7}


def test_the_inverse_square_root_is_the_formula_of_the_paper():
    schedule = InverseSquareRoot.for_width(512, warmup_steps=4000)
    steps = np.array([1, 2, 1000, 3999, 4000, 4001, 16000, 100000])
    wanted = 512**-0.5 * np.minimum(steps**-0.5, steps * 4000**-1.5)
    np.testing.assert_allclose(rates(schedule, steps - 1), wanted, rtol=1e-6)


def test_the_inverse_square_root_has_its_peak_after_the_warm_up():
    values = rates(InverseSquareRoot(0.5, warmup_steps=4), range(16))
    assert values.argmax() == 3
    assert values[3] == pytest.approx(0.5)
    assert values[15] == pytest.approx(0.25)


def test_the_inverse_square_root_needs_a_warm_up():
    with pytest.raises(ValueError, match="got 0"):
        InverseSquareRoot(1.0, 0)


def test_the_inverse_square_root_is_serialized():
    schedule = InverseSquareRoot(0.5, 3)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert again.get_config() == {"peak": 0.5, "warmup_steps": 3}
