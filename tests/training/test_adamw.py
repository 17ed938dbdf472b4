"""The fused AdamW: the numbers of Keras' own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lingxi.training import AdamW, WarmupLinearDecay, layer_decay

STEPS = 20
SHAPES = {"table": (6, 4), "kernel": (4, 3), "bias": (3,), "scalar": ()}


def gradients_of(rows):
    """Gradients of every step; that of the table is sparse, of `rows(step)`, if given."""
    random = np.random.default_rng(0)
    for step in range(STEPS):
        gradients = [tf.constant(random.normal(size=s), tf.float32) for s in SHAPES.values()]
        if rows is not None:
            values = tf.constant(random.normal(size=(len(rows(step)), 4)), tf.float32)
            gradients[0] = tf.IndexedSlices(values, tf.constant(rows(step)), tf.constant([6, 4]))
        yield gradients


def repeated_rows(step):
    return [step % 6, 3, 3]


def distinct_rows(step):
    return [step % 6, (step + 2) % 6]


def apply_dense(optimizer, gradients, variables):
    optimizer.apply([tf.convert_to_tensor(gradient) for gradient in gradients], variables)


def trajectory(optimizer, rows=None, apply=None, excluded=()):
    """Every variable after every step."""
    random = np.random.default_rng(1)
    variables = [
        keras.Variable(random.normal(size=shape).astype("float32"), name=name)
        for name, shape in SHAPES.items()
    ]
    if excluded:
        optimizer.exclude_from_weight_decay(var_names=excluded)
    optimizer.build(variables)
    apply = apply or (lambda optimizer, grads, variables: optimizer.apply(grads, variables))
    states = []
    for gradients in gradients_of(rows):
        apply(optimizer, gradients, variables)
        states.append([keras.ops.convert_to_numpy(v).copy() for v in variables])
    return states


def assert_equal_steps(ours, theirs):
    """Equal but for rounding: a few units in the last place, over all the steps."""
    assert len(ours) == len(theirs) == STEPS
    for step, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        for name, a, b in zip(SHAPES, mine, other, strict=True):
            np.testing.assert_allclose(a, b, 1e-6, 1e-6, err_msg=f"{name}, step {step}")


SETTINGS = {
    "defaults": {},
    "no decay": {"weight_decay": 0.0},
    "decay": {"weight_decay": 0.3, "learning_rate": 0.005},
    "betas": {"beta_1": 0.5, "beta_2": 0.7, "epsilon": 1e-3, "learning_rate": 0.005},
    "clipnorm": {"clipnorm": 0.5, "learning_rate": 0.005},
    "global clipnorm": {"global_clipnorm": 0.5, "learning_rate": 0.005},
    "clipvalue": {"clipvalue": 0.2, "learning_rate": 0.005},
    "schedule": {"learning_rate": WarmupLinearDecay(0.005, 5, STEPS)},
    "moving average": {"use_ema": True, "ema_momentum": 0.9, "learning_rate": 0.005},
    "amsgrad": {"amsgrad": True, "learning_rate": 0.005},
    "accumulation": {"gradient_accumulation_steps": 4, "learning_rate": 0.005},
    "loss scale": {"loss_scale_factor": 16.0, "learning_rate": 0.005},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_every_step_equals_that_of_keras(settings):
    ours = trajectory(AdamW(**settings))
    theirs = trajectory(keras.optimizers.AdamW(**settings))
    assert max(np.abs(a - b).max() for a, b in zip(ours[0], ours[-1], strict=True)) > 1e-3
    assert_equal_steps(ours, theirs)


UNABLE = {"accumulation", "loss scale"}  # Keras itself cannot, with sparse gradients


@pytest.mark.parametrize("name", sorted(UNABLE))
@pytest.mark.parametrize("rows", [distinct_rows, repeated_rows])
def test_sparse_gradients_are_accumulated_and_unscaled_as_dense_ones(name, rows):
    ours = trajectory(AdamW(**SETTINGS[name]), rows)
    theirs = trajectory(keras.optimizers.AdamW(**SETTINGS[name]), rows, apply_dense)
    assert_equal_steps(ours, theirs)


SPARSE = {name: SETTINGS[name] for name in SETTINGS if name not in UNABLE}
PLAIN = {name: SPARSE[name] for name in SPARSE if "clip" not in name and name != "amsgrad"}


@pytest.mark.parametrize("settings", SPARSE.values(), ids=SPARSE.keys())
def test_sparse_gradients_of_distinct_rows_equal_those_of_keras(settings):
    ours = trajectory(AdamW(**settings), distinct_rows)
    assert_equal_steps(ours, trajectory(keras.optimizers.AdamW(**settings), distinct_rows))


@pytest.mark.parametrize("settings", PLAIN.values(), ids=PLAIN.keys())
def test_sparse_gradients_of_a_repeated_row_are_summed(settings):
    """Keras squares them one by one instead: so it is given their sum."""
    ours = trajectory(AdamW(**settings), repeated_rows)
    theirs = trajectory(keras.optimizers.AdamW(**settings), repeated_rows, apply_dense)
    assert_equal_steps(ours, theirs)


def test_every_step_in_a_graph_equals_that_of_keras():
    def in_graph():
        steps = {}

        def apply(optimizer, gradients, variables):
            def step(gradients):
                optimizer.apply(gradients, variables)

            steps.setdefault("graph", tf.function(step, reduce_retracing=True))(gradients)

        return apply

    settings = {"learning_rate": 0.005, "weight_decay": 0.1, "global_clipnorm": 1.0}
    ours = trajectory(AdamW(**settings), distinct_rows, in_graph())
    theirs = trajectory(keras.optimizers.AdamW(**settings), distinct_rows)
    assert_equal_steps(ours, theirs)


def test_excluded_variables_do_not_decay():
    settings = {"weight_decay": 5.0, "learning_rate": 0.005}
    ours = trajectory(AdamW(**settings), excluded=["bias"])
    theirs = trajectory(keras.optimizers.AdamW(**settings), excluded=["bias"])
    everything = trajectory(AdamW(**settings))
    assert_equal_steps(ours, theirs)
    bias, kernel = list(SHAPES).index("bias"), list(SHAPES).index("kernel")
    assert np.abs(ours[-1][bias] - everything[-1][bias]).max() > 0.01
    np.testing.assert_array_equal(ours[-1][kernel], everything[-1][kernel])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_variables_fall_back_to_keras(dtype):
    values = []
    for optimizer in (AdamW(0.1), keras.optimizers.AdamW(0.1)):
        variable = keras.Variable(np.ones(3), dtype=dtype)
        optimizer.build([variable])
        for _ in range(3):
            optimizer.apply([tf.constant([1.0, -2.0, 0.5], dtype)], [variable])
        values.append(keras.ops.convert_to_numpy(variable).astype("float32"))
    np.testing.assert_array_equal(*values)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sparse_gradients_in_half_precision_are_clipped_as_dense_ones(dtype):
    values = tf.cast([[3.0, 4.0], [3.0, 4.0]], dtype)
    sparse = tf.IndexedSlices(values, tf.constant([1, 1]), tf.constant([3, 2]))
    found = []
    for gradient in (sparse, tf.convert_to_tensor(sparse)):
        table = keras.Variable(np.ones((3, 2)), dtype=dtype)
        optimizer = AdamW(0.5, global_clipnorm=1.0, weight_decay=0.0, epsilon=1.0)
        optimizer.apply([gradient], [table])
        found.append(np.array(keras.ops.cast(table, "float32")))
    np.testing.assert_array_equal(*found)
    assert dtype == "bfloat16" or (found[0][1] < 1).all()  # 1 - beta_2 is 0 in bfloat16


def test_training_equals_that_with_keras():
    weights = []
    x = np.random.default_rng(0).integers(0, 9, (64, 3))
    y = (x.sum(1) % 2).astype("float32")
    for optimizer in (AdamW(0.01), keras.optimizers.AdamW(0.01)):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.layers.CategoryEncoding(9, "multi_hot"),
                keras.layers.Dense(4),
                keras.layers.Dense(1),
            ]
        )
        model.compile(optimizer, "mse")
        model.fit(x, y, epochs=2, batch_size=16, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_it_is_serialized():
    optimizer = AdamW(WarmupLinearDecay(0.1, 2, 9), weight_decay=0.02, global_clipnorm=1.0)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert isinstance(copy, AdamW)
    assert copy.get_config() == optimizer.get_config()


def test_a_saved_model_goes_on_where_it_was(tmp_path):
    def train(model):
        return model.fit(np.eye(4), np.eye(4), epochs=3, verbose=0).history["loss"]

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    model.compile(AdamW(0.1), "mse")
    train(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, AdamW)
    assert int(loaded.optimizer.iterations) == 3
    np.testing.assert_allclose(train(loaded), train(model), rtol=1e-5)


@pytest.mark.parametrize("fused", [True, False])
def test_rate_factors_scale_learning_and_decay(fused, monkeypatch):
    """A variable with a factor moves as by an optimizer of so much of the rate."""
    if not fused:
        monkeypatch.setattr(AdamW, "_fused", lambda self: False)
    factors = {"table": 0.5, "kern": 0.0}
    scaled = trajectory(AdamW(0.01, weight_decay=0.1, rate_factors=factors))
    whole, half = (trajectory(AdamW(rate, weight_decay=0.1)) for rate in (0.01, 0.005))
    start = trajectory(AdamW(0.0, weight_decay=0.0))
    expected = [half, start, whole, whole]
    wanted = [[source[step][i] for i, source in enumerate(expected)] for step in range(STEPS)]
    assert_equal_steps(scaled, wanted)


def test_rate_factors_are_saved():
    optimizer = AdamW(0.01, rate_factors={"a": 0.5})
    assert AdamW.from_config(optimizer.get_config()).rate_factors == {"a": 0.5}


def test_layer_decay_goes_down_from_the_top(tiny_classifier):
    task = tiny_classifier()
    optimizer = AdamW(0.01, rate_factors=layer_decay(task, 0.5))
    optimizer.build(task.trainable_variables)
    found = {variable.path: optimizer.factor(variable) for variable in task.trainable_variables}
    count = len(task.backbone.blocks)
    for path, factor in found.items():
        if "embedding" in path:
            assert factor == 0.5 ** (count + 1), path
        elif "block_" in path:
            number = int(path.split("block_")[1].split("/")[0])
            assert factor == 0.5 ** (count - number), path
        else:
            assert factor == 1.0, path
    with pytest.raises(ValueError, match="layer_decay must be in"):
        layer_decay(task, 0.0)


def test_fit_takes_layer_decay(tiny_classifier):
    task = tiny_classifier()
    before = task.get_weights()
    task.fit(["good", "bad"], ["positive", "negative"], layer_decay=1e-9, verbose=0)
    moved = [
        np.abs(weight - old).max() > 1e-8
        for weight, old in zip(task.get_weights(), before, strict=True)
    ]
    by_path = dict(zip((w.path for w in task.weights), moved, strict=True))
    assert by_path["head/kernel"]
    assert not any(is_moved for path, is_moved in by_path.items() if "block_" in path)
    task.compile()
    with pytest.raises(ValueError, match="layer_decay is for the default optimizer"):
        task.fit(["good"], ["positive"], layer_decay=0.5)


TEXTS = ["the good film", "a bad river and a poor night", "good", "bad bad film"]
LABELS = np.array([1, 0, 1, 0], "int32")


@pytest.mark.parametrize("eager", [True, False])
def test_accumulated_batches_are_one_large_batch(tiny_classifier, eager):
    """Of a task: with sparse gradients of its table, clipped by their norm, and decay."""

    def trained(batch_size, **options):
        task = tiny_classifier()
        settings = {"weight_decay": 0.1, "global_clipnorm": 0.05, "epsilon": 1e-4}
        task.compile(AdamW(0.01, **settings, **options), run_eagerly=eager)
        x = task.tokenizer(TEXTS)
        task.fit(x, LABELS, batch_size=batch_size, epochs=3, shuffle=False, verbose=0)
        return task.get_weights()

    whole, start = trained(4), tiny_classifier().get_weights()
    for large, small in zip(whole, trained(1, gradient_accumulation_steps=4), strict=True):
        np.testing.assert_allclose(small, large, atol=2e-5)
    assert max(np.abs(a - b).max() for a, b in zip(whole, start, strict=True)) > 0.01


def test_a_preset_has_the_moving_average_of_the_weights(tiny_classifier, tmp_path):
    class Weights(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append([np.array(v) for v in self.model.trainable_variables])

    seen = []
    task = tiny_classifier()
    task.compile(AdamW(0.01, use_ema=True, ema_momentum=0.6), run_eagerly=True)
    task.fit(TEXTS, LABELS, batch_size=2, epochs=2, callbacks=[Weights()], verbose=0)
    mean = seen[0]
    for weights in seen[1:]:
        mean = [0.6 * a + 0.4 * b for a, b in zip(mean, weights, strict=True)]
    task.save_preset(tmp_path)
    again = type(task).from_preset(tmp_path)
    for variable, wanted in zip(again.trainable_variables, mean, strict=True):
        np.testing.assert_allclose(variable, wanted, atol=1e-6)
    last = seen[-1]
    assert max(np.abs(a - b).max() for a, b in zip(mean, last, strict=True)) > 1e-3
