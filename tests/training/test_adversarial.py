"""Adversarial techniques: the points where they look, and what they learn there."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lingxi.layers import changed_embeddings
from lingxi.training import AdamW, Fgm, FreeLb, Pgd, VirtualAdversarial, adversarial

TEXTS = ["the good film", "a bad river and a poor night", "good"]
LABELS = np.array([1, 0, 1], "int32")
ALL = [
    Fgm(epsilon=1.0),
    Pgd(epsilon=1.0, step_size=0.4, steps=2),
    FreeLb(epsilon=0.6, step_size=0.1, steps=2, seed=1),
    VirtualAdversarial(epsilon=1.0, seed=1),
]
names = [type(technique).__name__ for technique in ALL]


@pytest.fixture
def new(tiny_classifier):
    """A function: a new compiled classifier."""

    def make(dtype=None, optimizer=None, technique=None, **config):
        task = tiny_classifier(config=config, dtype=dtype)
        task.compile(optimizer or AdamW(3e-3), technique=technique, run_eagerly=True)
        return task

    return make


@pytest.fixture
def passes(monkeypatch):
    """A list of every pass that a technique makes from now on."""
    found = []
    at = adversarial._Passes.at

    def recorded(self, *args, **kwargs):
        found.append(at(self, *args, **kwargs))
        return found[-1]

    monkeypatch.setattr(adversarial._Passes, "at", recorded)
    return found


def inputs(task, texts=TEXTS, extra=0):
    """Token ids of texts, with so many columns of padding more than they need."""
    x = {name: values.numpy() for name, values in task.tokenizer(texts).items()}
    return {
        name: tf.pad(values, [[0, 0], [0, extra]])  # the id of "[PAD]" is 0
        for name, values in x.items()
    }


def learn(technique, task, x, sample_weight=None, y=LABELS):
    """Loss and dense gradients of a technique."""
    loss, _, gradients = technique.loss_and_gradients(
        task, x, tf.constant(y), sample_weight, lambda loss: loss
    )
    return float(loss), dense(gradients)


def dense(gradients):
    return [None if g is None else tf.convert_to_tensor(g).numpy() for g in gradients]


def at(task, x, point, objective=None):
    """Loss, gradients by the weights and by the point, by definition; without dropout."""
    point = tf.constant(point)
    with tf.GradientTape() as tape:
        tape.watch(point)
        with changed_embeddings(lambda token_ids, embeddings: embeddings + point):
            outputs = task(x, training=True)
        if objective is None:
            loss = task.compute_loss(x, tf.constant(LABELS), outputs, training=True)
        else:
            loss = objective(outputs)
    gradients, ascent = tape.gradient(loss, (task.trainable_weights, point))
    return float(loss), dense(gradients), ascent.numpy()


def norms(point):
    return np.sqrt(np.square(point).sum(axis=(1, 2)))


def unit(point):
    return point / np.maximum(norms(point), 1e-30)[:, np.newaxis, np.newaxis]


def shape_of(x):
    return (*x["token_ids"].shape, 32)


def assert_gradients(found, *several):
    """The gradients are the sums of these, where they are not None."""
    for index, gradient in enumerate(found):
        parts = [gradients[index] for gradients in several if gradients[index] is not None]
        if not parts:
            assert gradient is None
        else:
            np.testing.assert_allclose(gradient, sum(parts), rtol=1e-4, atol=1e-6)


def test_fgm_adds_the_loss_at_the_end_of_the_gradient(new):
    task = new()
    x = inputs(task)
    clean, gradients, ascent = at(task, x, np.zeros(shape_of(x), "float32"))
    worst, there, _ = at(task, x, 0.7 * unit(ascent))
    assert worst > clean
    loss, found = learn(Fgm(epsilon=0.7), task, x)
    assert loss == pytest.approx(clean + worst, rel=1e-5)
    assert_gradients(found, gradients, there)
    loss, _ = learn(Fgm(epsilon=0.7, weight=0.5), task, x)
    assert loss == pytest.approx(clean + 0.5 * worst, rel=1e-5)


def test_pgd_goes_up_and_stays_in_its_ball(new):
    task = new()
    x = inputs(task)
    point = np.zeros(shape_of(x), "float32")
    clean, gradients, ascent = at(task, x, point)
    for _ in range(3):
        point = point + 0.4 * unit(ascent)
        length = norms(point)[:, np.newaxis, np.newaxis]
        point = point * np.minimum(1.0, 1.0 / length)
        worst, there, ascent = at(task, x, point)
    loss, found = learn(Pgd(epsilon=1.0, step_size=0.4, steps=3), task, x)
    assert loss == pytest.approx(clean + worst, rel=1e-5)
    assert_gradients(found, gradients, there)


def test_freelb_is_the_mean_on_the_way_up(new):
    task = new()
    x = inputs(task)
    mask = np.array(x["padding_mask"], "float32")[..., np.newaxis]
    noise = keras.random.uniform(shape_of(x), -0.6, 0.6, seed=keras.random.SeedGenerator(5))
    numbers = mask.sum(axis=(1, 2), keepdims=True) * 32
    point = np.array(noise) * mask / np.sqrt(numbers)
    losses, several = [], []
    for _ in range(3):
        loss, gradients, ascent = at(task, x, point)
        losses.append(loss)
        several.append([None if g is None else g / 3 for g in gradients])
        point = point + 0.5 * unit(ascent)
        point = point * np.minimum(1.0, 0.6 / norms(point))[:, np.newaxis, np.newaxis]
    assert losses == sorted(losses)
    loss, found = learn(FreeLb(epsilon=0.6, step_size=0.5, steps=3, seed=5), task, x)
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert_gradients(found, *several)


def test_virtual_adversarial_finds_where_the_prediction_changes_most(new):
    task = new()
    x = inputs(task)
    mask = np.array(x["padding_mask"], "float32")[..., np.newaxis]
    clean, gradients, _ = at(task, x, np.zeros(shape_of(x), "float32"))
    log_p = tf.nn.log_softmax(task(x))

    def change(outputs):
        log_q = tf.nn.log_softmax(outputs)
        return tf.reduce_mean(tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=-1))

    noise = keras.random.normal(shape_of(x), seed=keras.random.SeedGenerator(5))
    direction = unit(np.array(noise) * mask)
    blind = at(task, x, 2.0 * direction, change)[0]
    for _ in range(2):
        direction = unit(at(task, x, 0.5 * direction, change)[2])
    worst, there, _ = at(task, x, 2.0 * direction, change)
    assert worst > 2 * blind > 0
    technique = VirtualAdversarial(epsilon=2.0, weight=1.0, iterations=2, xi=0.5, seed=5)
    loss, found = learn(technique, task, x)
    assert loss == pytest.approx(clean + worst, rel=1e-4)
    assert_gradients(found, gradients, there)


@pytest.mark.parametrize("technique", ALL, ids=names)
def test_points_have_their_size_and_are_zero_at_padding(new, passes, technique):
    task = new()
    x = inputs(task, extra=3)
    learn(technique, task, x)
    padding = ~np.array(x["padding_mask"])
    for each in passes:
        (point,) = each.point
        assert (point.numpy()[padding] == 0).all()
        assert (norms(point) <= technique.epsilon * (1 + 1e-6)).all()
    (last,) = passes[-1].point
    if not isinstance(technique, (FreeLb, Pgd)):
        np.testing.assert_allclose(norms(last), technique.epsilon, rtol=1e-5)
    assert (norms(last) > 0.1).all()


@pytest.mark.parametrize(
    "technique", [Fgm(epsilon=1.0), Pgd(epsilon=1.0, step_size=0.4, steps=2)], ids=["Fgm", "Pgd"]
)
def test_padding_changes_nothing(new, technique):
    task = new()
    loss, gradients = learn(technique, task, inputs(task))
    wider, again = learn(technique, task, inputs(task, extra=5))
    assert wider == pytest.approx(loss, rel=1e-5)
    assert_gradients(again, gradients)


@pytest.mark.parametrize("technique", ALL, ids=names)
def test_all_passes_have_the_same_dropout(new, technique, monkeypatch):
    """At a point of almost no size, all find the same; then the random numbers are one pass on."""
    task = new(dropout=0.4)
    x = inputs(task)
    states = adversarial.dropout_states(task)
    before = [np.array(state) for state in states]
    task(x, training=True)
    one_pass = [np.array(state) for state in states]
    assert not np.array_equal(before, one_pass)

    def reset():
        for state, value in zip(states, before, strict=True):
            state.assign(value)

    reset()
    plain = float(task.compute_loss(x, LABELS, task(x, training=True)))
    reset()
    monkeypatch.setattr(technique, "epsilon", 1e-12)
    loss, _ = learn(technique, task, x)
    wanted = {"Fgm": 2 * plain, "Pgd": 2 * plain}.get(type(technique).__name__, plain)
    assert loss == pytest.approx(wanted, rel=1e-5)
    np.testing.assert_array_equal([np.array(state) for state in states], one_pass)


def test_examples_of_weight_zero_are_learned_only_virtually(new, passes):
    task = new()
    x, weights = inputs(task), tf.constant([1.0, 0.0, 1.0])
    _, without = learn(
        Fgm(epsilon=1.0), task, inputs(task, [TEXTS[0], TEXTS[2]], extra=4), y=LABELS[[0, 2]]
    )
    _, gradients = learn(Fgm(epsilon=1.0), task, x, weights)
    (point,) = passes[-1].point
    np.testing.assert_allclose(norms(point), [1, 0, 1], atol=1e-5)
    assert_gradients(gradients, [None if g is None else g * 2 / 3 for g in without])
    learn(VirtualAdversarial(epsilon=1.0), task, x, weights)
    (point,) = passes[-1].point
    np.testing.assert_allclose(norms(point), 1, rtol=1e-5)


def test_frozen_embeddings_are_perturbed_all_the_same(new, passes):
    task = new(technique=Fgm(epsilon=1.0))
    task.backbone.trainable = False
    before = task.get_weights()
    task.fit(inputs(task), LABELS, verbose=0)
    np.testing.assert_allclose(norms(passes[-1].point[0]), 1, rtol=1e-5)
    moved = [
        variable.path
        for variable, old in zip(task.weights, before, strict=True)
        if not np.array_equal(variable, old)
    ]
    assert sorted(moved) == ["head/bias", "head/kernel"]


def test_a_loss_scaled_too_far_leaves_the_step_out(new):
    """As without a technique: the loss stays a number, the scale is halved."""
    optimizer = keras.optimizers.LossScaleOptimizer(AdamW(3e-3), initial_scale=2.0**120)
    task = new("mixed_float16", optimizer, Fgm(epsilon=1.0))
    before = task.get_weights()
    history = task.fit(inputs(task), LABELS, verbose=0).history
    assert np.isfinite(history["loss"][0])
    assert float(optimizer.dynamic_scale) == 2.0**119
    for weight, old in zip(task.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_fit_learns_in_one_graph(tiny_classifier, toy_texts):
    task = tiny_classifier()
    technique, traces = FreeLb(epsilon=0.6, steps=2), []
    plain = technique.loss_and_gradients
    technique.loss_and_gradients = lambda *args: (traces.append(1), plain(*args))[1]
    options = {"epochs": 12, "batch_size": 8, "learning_rate": 5e-3, "seed": 0, "verbose": 0}
    history = task.fit(*toy_texts, technique=technique, **options).history
    assert history["accuracy"][-1] > 0.95
    assert len(traces) <= 2  # the second one is that of any number of examples and tokens
    assert task.classify(["a lovely film"])[0].label == "positive"


@pytest.fixture
def toy_texts():
    words = {"positive": ["good", "great", "lovely"], "negative": ["bad", "poor", "awful"]}
    rows = [(f"{'the ' * n} {w} film", k) for k in words for w in words[k] for n in range(4)]
    return tuple(zip(*rows, strict=True))


@pytest.mark.parametrize("technique", ALL, ids=names)
def test_it_is_saved_with_a_compiled_task_only(new, technique, tmp_path):
    task = new(technique=technique)
    task.save(tmp_path / "task.keras")
    loaded = keras.saving.load_model(tmp_path / "task.keras")
    assert type(loaded.technique) is type(technique)
    assert loaded.technique.get_config() == technique.get_config()
    assert len(loaded.variables) == len(new().variables)


def test_a_technique_of_fit_is_not_saved(tiny_classifier, tmp_path):
    task = tiny_classifier()
    task.fit(TEXTS, LABELS, technique=Fgm(epsilon=1.0), verbose=0)
    assert isinstance(task.technique, Fgm)
    assert task.get_compile_config() is None
    task.save_preset(tmp_path / "preset")
    again = type(task).from_preset(tmp_path / "preset")
    assert again.technique is None
    for weight, same in zip(task.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, same)


def test_wrong_use_says_what_is_right(new):
    task = new()
    with pytest.raises(ValueError, match="pass technique to `compile`"):
        task.fit(TEXTS, LABELS, technique=Fgm(epsilon=1.0))
    with pytest.raises(TypeError, match=r"such as lingxi\.training\.Fgm\(\), got <class"):
        task.compile(technique=Fgm)
    with pytest.raises(ValueError, match="epsilon must be above 0, got 0"):
        Fgm(epsilon=0)
    with pytest.raises(ValueError, match="steps must be above 0, got -1"):
        FreeLb(steps=-1)
