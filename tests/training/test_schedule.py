"""Warm-up and decay."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from lingxi.training import (
    SCHEDULES,
    InverseSquareRoot,
    Warmup,
    WarmupLinearDecay,
    named_schedule,
)


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
    [
        (0, 0, [0]),
        (1, 1, [1, 0]),
        (3, 3, [1 / 3, 2 / 3, 1, 0]),
        (0, 1, [1, 0]),
        (0, 2, [1, 0.5, 0]),
    ],
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


def test_a_warm_up_goes_to_the_first_rate_of_any_schedule():
    cosine = keras.optimizers.schedules.CosineDecay(0.4, 8)
    values = rates(Warmup(cosine, 4), range(12))
    np.testing.assert_allclose(values[:4], 0.4 * np.array([1, 2, 3, 4]) / 4, rtol=1e-6)
    np.testing.assert_allclose(values[3:], rates(cosine, range(9)), atol=1e-7)
    np.testing.assert_allclose(rates(Warmup(cosine, 0), range(9)), rates(cosine, range(9)))
    np.testing.assert_allclose(rates(Warmup(0.4, 2), range(4)), [0.2, 0.4, 0.4, 0.4], rtol=1e-6)
    with pytest.raises(ValueError, match="got -1"):
        Warmup(0.1, -1)


@pytest.mark.parametrize("inner", [0.25, keras.optimizers.schedules.PolynomialDecay(0.1, 9)])
def test_a_warm_up_is_serialized_with_its_schedule(inner):
    optimizer = keras.optimizers.SGD(Warmup(inner, 3))
    config = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(config)._learning_rate
    assert again.get_config() == Warmup(inner, 3).get_config()
    np.testing.assert_array_equal(rates(again, range(9)), rates(Warmup(inner, 3), range(9)))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 0.1, 5])
def test_named_schedules_rise_to_the_peak_and_go_to_their_end(name, warmup):
    values = rates(named_schedule(name, 0.5, 20, warmup), range(21))
    rising = {0: 1, 0.1: 2, 5: 5}[warmup]
    wanted = 0.5 * np.arange(1, rising + 1) / rising
    np.testing.assert_allclose(values[:rising], wanted, rtol=1e-6)
    last = {"constant": 0.5, "exponential": 0.005}.get(name, 0.0)
    if name == "inverse_square_root":
        last = 0.5 * (rising / 21) ** 0.5
    assert values[20] == pytest.approx(last, rel=1e-4, abs=1e-7)
    falls = np.diff(values[rising - 1 :])
    assert (falls == 0).all() if name == "constant" else (falls < 0).all()


def test_shares_of_steps_are_rounded_up_but_for_the_error_of_floats():
    for total, steps in ((30, 3), (31, 4), (70, 7)):
        assert named_schedule("linear", 1.0, total).warmup_steps == steps


def test_unknown_names_and_warm_ups_are_refused():
    with pytest.raises(ValueError, match=r"linear, constant, cosine, .* got 'cosin'"):
        named_schedule("cosin", 1.0, 10)
    with pytest.raises(ValueError, match="at most all 10; got 11"):
        named_schedule("cosine", 1.0, 10, warmup=11)
    with pytest.raises(ValueError, match="got 1.5"):
        named_schedule("cosine", 1.0, 10, warmup=1.5)


def test_fit_takes_a_schedule_by_its_name(tiny_classifier):
    task = tiny_classifier()
    data = ["good", "bad"] * 4, ["positive", "negative"] * 4
    fit = {"batch_size": 2, "epochs": 2, "learning_rate": 0.5, "verbose": 0}
    task.fit(*data, schedule="cosine", warmup=3, **fit)
    rate = task.optimizer._learning_rate
    wanted = named_schedule("cosine", 0.5, 8, 3)
    assert rate.get_config() == wanted.get_config()
    task.compile()
    for name, value in (("schedule", "linear"), ("warmup", 0.2)):
        with pytest.raises(ValueError, match=f"{name} is for the default optimizer"):
            task.fit(*data, **{name: value})


def test_a_schedule_needs_the_number_of_steps(tiny_classifier):
    def forever():
        while True:
            yield ["good"], [1]

    spec = (tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.int32))
    data = tf.data.Dataset.from_generator(forever, output_signature=spec)
    with pytest.raises(ValueError, match="pass steps_per_epoch"):
        tiny_classifier().fit(data, schedule="cosine")
