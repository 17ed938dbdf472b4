"""The fused AdamW: the numbers of Keras' own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lingxi.training import AdamW, WarmupLinearDecay

STEPS = 20
SHAPES = {"table": (6, 4), "kernel": (4, 3), "bias": (3,), "scalar": ()}


def gradients_of(sparse):
    """Gradients of every step; of the table as `tf.IndexedSlices` with repeated rows if sparse."""
    random = np.random.default_rng(0)
    for step in range(STEPS):
        gradients = [tf.constant(random.normal(size=s), tf.float32) for s in SHAPES.values()]
        if sparse:
            rows = [step % 6, 3, 3]
            values = tf.constant(random.normal(size=(3, 4)), tf.float32)
            gradients[0] = tf.IndexedSlices(values, tf.constant(rows), tf.constant([6, 4]))
        yield gradients


def trajectory(optimizer, sparse=False, apply=None, excluded=()):
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
    for gradients in gradients_of(sparse):
        apply(optimizer, gradients, variables)
        states.append([keras.ops.convert_to_numpy(v).copy() for v in variables])
    return states


def assert_equal_steps(ours, theirs, tolerance=1e-6):
    assert len(ours) == len(theirs) == STEPS
    for step, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        for name, a, b in zip(SHAPES, mine, other, strict=True):
            np.testing.assert_allclose(a, b, atol=tolerance, err_msg=f"{name}, step {step}")


SETTINGS = {
    "defaults": {},
    "no decay": {"weight_decay": 0.0},
    "decay": {"weight_decay": 0.3, "learning_rate": 0.05},
    "betas": {"beta_1": 0.5, "beta_2": 0.7, "epsilon": 1e-3, "learning_rate": 0.1},
    "clipnorm": {"clipnorm": 0.5, "learning_rate": 0.1},
    "global clipnorm": {"global_clipnorm": 0.5, "learning_rate": 0.1},
    "clipvalue": {"clipvalue": 0.2, "learning_rate": 0.1},
    "schedule": {"learning_rate": WarmupLinearDecay(0.1, 5, STEPS)},
    "moving average": {"use_ema": True, "ema_momentum": 0.9, "learning_rate": 0.1},
    "amsgrad": {"amsgrad": True, "learning_rate": 0.1},
    "accumulation": {"gradient_accumulation_steps": 4, "learning_rate": 0.1},
    "loss scale": {"loss_scale_factor": 16.0, "learning_rate": 0.1},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_every_step_equals_that_of_keras(settings, sparse):
    if sparse and "gradient_accumulation_steps" in settings:
        pytest.skip("Keras itself cannot accumulate sparse gradients")
    ours = trajectory(AdamW(**settings), sparse)
    theirs = trajectory(keras.optimizers.AdamW(**settings), sparse)
    assert max(np.abs(a - b).max() for a, b in zip(ours[0], ours[-1], strict=True)) > 1e-3
    assert_equal_steps(ours, theirs)


def test_every_step_in_a_graph_equals_that_of_keras():
    def in_graph():
        @tf.function(reduce_retracing=True)
        def step(optimizer, gradients, variables):
            optimizer.apply(gradients, variables)

        return step

    settings = {"learning_rate": 0.1, "weight_decay": 0.1, "global_clipnorm": 1.0}
    ours = trajectory(AdamW(**settings), sparse=True, apply=in_graph())
    theirs = trajectory(keras.optimizers.AdamW(**settings), sparse=True)
    assert_equal_steps(ours, theirs)


def test_excluded_variables_do_not_decay():
    settings = {"weight_decay": 0.5, "learning_rate": 0.1}
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
    assert np.abs(values[0] - 1).max() > 0.1


def test_training_equals_that_with_keras():
    weights = []
    x = np.random.default_rng(0).integers(0, 9, (64, 3))
    y = (x.sum(1) % 2).astype("float32")
    for optimizer in (AdamW(0.01), keras.optimizers.AdamW(0.01)):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.layers.Embedding(9, 4), keras.layers.Flatten(), keras.layers.Dense(1)]
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
