"""The conditional random field against sums over all sequences of tags."""

import functools
import itertools
import json

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingxi.layers import LinearChainCrf
from tests.layers.reference import QUICK, numpy, random, randomize

BATCH, SEQ, TAGS = 3, 5, 3
EXAMPLES = settings(max_examples=5 if QUICK else 25)
masks = st.lists(st.booleans(), min_size=BATCH * SEQ, max_size=BATCH * SEQ).map(
    lambda flags: np.reshape(flags, (BATCH, SEQ))
)
MASK = np.array([[1, 1, 1, 1, 1], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0]], bool)


def crf(num_tags=TAGS, seed=0, **kwargs):
    layer = LinearChainCrf(num_tags, **kwargs)
    layer.build()
    return randomize(layer, seed)


def compiled(function):
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    import jax

    return jax.jit(function)


def paths(layer, scores, mask):
    """Of one row: all sequences over its real positions, `[paths, n]`, and their scores."""
    transitions, start, end = (numpy(w).astype("float64") for w in layer.weights)
    scores = np.asarray(scores, "float64")[mask]
    count = len(scores)
    sequences = np.array(list(itertools.product(range(len(start)), repeat=count)), int)
    total = scores[np.arange(count), sequences].sum(1)
    total += transitions[sequences[:, :-1], sequences[:, 1:]].sum(1)
    if count:
        total += start[sequences[:, 0]] + end[sequences[:, -1]]
    return sequences, total


def log_likelihood(layer, scores, tag_ids, mask):
    rows = []
    for row_scores, row_tags, row_mask in zip(scores, tag_ids, mask, strict=True):
        sequences, total = paths(layer, row_scores, row_mask)
        chosen = total[(sequences == row_tags[row_mask]).all(1)][0]
        rows.append(chosen - np.log(np.exp(total).sum()))
    return np.array(rows)


def in_graph_gradients(layer, scores, tag_ids, mask):
    import tensorflow as tf

    variables = [weight.value for weight in layer.weights]
    with tf.GradientTape() as tape:
        tape.watch(scores)
        total = tf.reduce_sum(layer.log_likelihood(scores, tag_ids, mask))
    return [tf.convert_to_tensor(g) for g in tape.gradient(total, [scores, *variables])]


def weight_gradients(layer, scores, tag_ids, mask):
    """Gradients of the sum of the log-likelihoods: of the scores, then of each weight."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        gradients = in_graph_gradients(layer, tf.constant(scores), tag_ids, mask)
        return [numpy(gradient) for gradient in gradients]
    import jax

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradients(scores, values, tag_ids, mask):
        with keras.StatelessScope(list(zip(layer.weights, values, strict=True))):
            return keras.ops.sum(layer.log_likelihood(scores, tag_ids, mask))

    values = [weight.value for weight in layer.weights]
    of_scores, of_weights = gradients(scores, values, tag_ids, mask)
    return [numpy(gradient) for gradient in (of_scores, *of_weights)]


@EXAMPLES
@given(masks, st.integers(0, 1000))
def test_the_likelihood_is_that_among_all_sequences(mask, seed):
    layer, scores = crf(seed=seed), random(BATCH, SEQ, TAGS, seed=seed) * 2
    tag_ids = np.random.default_rng(seed).integers(TAGS, size=(BATCH, SEQ))
    wanted = log_likelihood(layer, scores, tag_ids, mask)
    labels = np.where(mask, tag_ids, -100)
    got = numpy(layer.log_likelihood(scores, labels, mask))
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert (got[~mask.any(1)] == 0).all()


@EXAMPLES
@given(masks, st.integers(0, 1000))
def test_decoding_finds_the_best_of_all_sequences(mask, seed):
    layer, scores = crf(seed=seed), random(BATCH, SEQ, TAGS, seed=seed)
    tag_ids = numpy(layer.decode(scores, mask))
    assert tag_ids.dtype == np.int32
    assert (tag_ids[~mask] == 0).all()
    for row in range(BATCH):
        sequences, total = paths(layer, scores[row], mask[row])
        np.testing.assert_array_equal(tag_ids[row, mask[row]], sequences[total.argmax()])


@EXAMPLES
@given(masks, st.integers(0, 1000))
def test_marginals_are_the_shares_of_the_sequences(mask, seed):
    layer, scores = crf(seed=seed), random(BATCH, SEQ, TAGS, seed=seed) * 2
    got = numpy(layer.marginals(scores, mask))
    assert (got[~mask] == 0).all()
    for row in range(BATCH):
        sequences, total = paths(layer, scores[row], mask[row])
        p = np.exp(total) / np.exp(total).sum()
        wanted = (p[:, None, None] * np.eye(TAGS)[sequences]).sum(0)
        np.testing.assert_allclose(got[row, mask[row]], wanted, atol=1e-5)


def test_gradients_are_differences_of_the_likelihood():
    layer, scores = crf(), random(BATCH, SEQ, TAGS)
    tag_ids = np.random.default_rng(1).integers(TAGS, size=(BATCH, SEQ))
    of_scores, *of_weights = weight_gradients(layer, scores, tag_ids, MASK)
    # Towards the right tags, away from the expected ones.
    wanted = np.where(MASK[..., None], np.eye(TAGS)[tag_ids], 0) - layer.marginals(scores, MASK)
    np.testing.assert_allclose(of_scores, wanted, atol=1e-5)

    for weight, gradient in zip(layer.weights, of_weights, strict=True):
        value = numpy(weight).copy()
        for index in np.ndindex(value.shape):
            sums = []
            for step in (0.125, -0.125):
                changed = value.copy()
                changed[index] += step
                weight.assign(changed)
                sums.append(log_likelihood(layer, scores, tag_ids, MASK).sum())
            weight.assign(value)
            assert gradient[index] == pytest.approx((sums[0] - sums[1]) / 0.25, abs=1e-2)


def test_extreme_scores_and_forbidden_steps_stay_finite():
    layer = crf()
    layer.transitions.assign(np.where(np.eye(TAGS, dtype=bool), -1e4, numpy(layer.transitions)))
    scores = random(BATCH, SEQ, TAGS) * 1e4
    scores[~MASK] = np.nan
    tag_ids = np.arange(BATCH * SEQ).reshape(BATCH, SEQ) % TAGS
    for value in (
        layer.log_likelihood(scores, tag_ids, MASK),
        layer.marginals(scores, MASK),
        *weight_gradients(layer, scores, tag_ids, MASK),
    ):
        assert np.isfinite(numpy(value)).all()


def test_a_forbidden_step_is_not_taken():
    layer = crf()
    layer.transitions.assign([[0, 0, 0], [0, 0, -1e4], [0, 0, 0]])  # never from 1 to 2
    scores = np.array([[[0, 3, 0], [9, 9, 9], [0, 0, 2]]], "float32")
    apart = numpy(layer.decode(scores, np.array([[True, True, True]])))[0]
    assert (apart[0], apart[2]) == (1, 2)
    beside = numpy(layer.decode(scores, np.array([[True, False, True]])))[0]
    assert (beside[0], beside[2]) != (1, 2)


def test_a_new_layer_is_a_softmax_of_each_position():
    layer, scores = LinearChainCrf(TAGS), random(BATCH, SEQ, TAGS)
    layer.build()
    p = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    mask = np.ones((BATCH, SEQ), bool)
    np.testing.assert_allclose(numpy(layer.marginals(scores, mask)), p, atol=1e-6)
    np.testing.assert_array_equal(numpy(layer.decode(scores, mask)), scores.argmax(-1))


def test_training_learns_which_tag_follows_which():
    class Tagger(keras.Model):
        """Sees nothing of the words."""

        def __init__(self):
            super().__init__()
            self.scores = keras.layers.Embedding(1, TAGS)
            self.crf = LinearChainCrf(TAGS)
            self.crf.build()

        def call(self, words):
            return self.scores(words)

        def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
            return -keras.ops.mean(self.crf.log_likelihood(y_pred, y, y != -100))

    mask = np.random.default_rng(0).random((32, 12)) < 0.7
    labels = np.where(mask, np.cumsum(mask, axis=1) % 2 + 1, -100).astype("int32")
    words = np.zeros(labels.shape, "int32")
    tagger = Tagger()
    tagger.compile(keras.optimizers.Adam(0.3))
    losses = tagger.fit(words, labels, batch_size=8, epochs=8, verbose=0).history["loss"]
    assert losses[0] > 3 > 0.5 > losses[-1]
    np.testing.assert_array_equal(numpy(tagger.crf.decode(tagger(words), mask))[mask], labels[mask])


# JAX indexes nothing along an axis of size 0.
@pytest.mark.parametrize("shape", [(0, 3), (1, 1)] if QUICK else [(0, 3), (1, 1), (2, 0)], ids=str)
@pytest.mark.filterwarnings("ignore:You are using a softmax")
def test_any_batch_size_and_length(shape):
    layer, scores, mask = crf(1), np.ones((*shape, 1), "float32"), np.ones(shape, bool)
    tag_ids = np.zeros(shape, "int32")
    np.testing.assert_allclose(numpy(layer.log_likelihood(scores, tag_ids, mask)), 0, atol=1e-6)
    np.testing.assert_array_equal(numpy(layer.decode(scores, mask)), tag_ids)
    np.testing.assert_array_equal(numpy(layer.marginals(scores, mask)), np.ones((*shape, 1)))


def test_long_sequences_keep_their_precision():
    layer, length = crf(), 512
    scores, mask = random(2, length, TAGS) * 10, np.ones((2, length), bool)
    marginals, decode = compiled(layer.marginals), compiled(layer.decode)
    whole = numpy(marginals(scores, mask))
    np.testing.assert_allclose(whole.sum(-1), 1, atol=1e-5)
    # What is far away hardly matters.
    part = numpy(marginals(scores[:, :100], mask[:, :100]))
    np.testing.assert_allclose(part[:, :80], whole[:, :80], atol=2e-3)
    log_p = numpy(compiled(layer.log_likelihood)(scores, decode(scores, mask), mask))
    assert (log_p <= 1e-2).all()


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "bfloat16", "float16"])
def test_it_computes_in_float32_inside_a_half_precise_model(dtype):
    class Tagger(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.crf = LinearChainCrf(TAGS, dtype=self.dtype_policy)
            self.crf.build()

        def call(self, scores):
            return self.crf.marginals(scores, MASK)

    tagger, scores = Tagger(dtype=dtype), np.round(random(BATCH, SEQ, TAGS))
    randomize(tagger.crf)
    got = tagger(scores)
    assert keras.backend.standardize_dtype(got.dtype) == "float32"
    np.testing.assert_allclose(numpy(got), numpy(crf().marginals(scores, MASK)), atol=1e-6)


def test_a_configuration_makes_an_equal_layer():
    layer, scores = crf(), random(BATCH, SEQ, TAGS)
    copy = LinearChainCrf.from_config(json.loads(json.dumps(layer.get_config())))
    assert copy.get_config() == layer.get_config()
    copy.build()
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(
        numpy(copy.marginals(scores, MASK)), numpy(layer.marginals(scores, MASK))
    )


def test_scores_of_other_tags_are_refused():
    with pytest.raises(ValueError, match=r"\[batch, seq, 3\], got \(3, 5, 4\)"):
        crf().decode(random(BATCH, SEQ, 4), MASK)


@pytest.mark.tensorflow_only
def test_one_trace_serves_every_length_and_its_gradient():
    import tensorflow as tf

    layer = crf()
    shapes = [tf.TensorSpec((None, None, TAGS)), tf.TensorSpec((None, None), tf.bool)]

    @tf.function(input_signature=shapes)
    def run(scores, mask):
        with tf.GradientTape() as tape:
            tag_ids = layer.decode(scores, mask)
            total = tf.reduce_sum(layer.log_likelihood(scores, tag_ids, mask))
        gradient = tf.convert_to_tensor(tape.gradient(total, layer.transitions.value))
        return tag_ids, layer.marginals(scores, mask), gradient

    for batch, length in [(2, 7), (1, 1), (3, 4), (2, 0)]:
        scores, mask = random(batch, length, TAGS), np.arange(length) % 3 < 2
        mask = np.tile(mask, (batch, 1))
        tag_ids, marginals, gradient = run(scores, mask)
        np.testing.assert_array_equal(tag_ids, layer.decode(scores, mask))
        np.testing.assert_allclose(marginals, layer.marginals(scores, mask), atol=1e-6)
        wanted = weight_gradients(layer, scores, tag_ids, mask)[1]
        np.testing.assert_allclose(gradient, wanted, atol=1e-5)
    assert run.experimental_get_tracing_count() == 1


@pytest.mark.tensorflow_only
def test_xla_compiles_the_likelihood_and_its_gradient():
    import tensorflow as tf

    layer, scores = crf(), random(BATCH, SEQ, TAGS)
    labels = np.where(MASK, 1, -100)
    wanted = weight_gradients(layer, scores, labels, MASK)
    by_xla = tf.function(
        lambda scores: tuple(in_graph_gradients(layer, scores, labels, MASK)), jit_compile=True
    )
    for got, expected in zip(by_xla(tf.constant(scores)), wanted, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.tensorflow_only
def test_it_runs_in_tflite_on_builtin_operations():
    import tensorflow as tf

    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert")
    layer, module = crf(), tf.Module()
    module.weights = [weight.value for weight in layer.weights]
    module.run = tf.function(
        lambda scores, mask: {
            "tag_ids": layer.decode(scores, mask),
            "marginals": layer.marginals(scores, mask),
        },
        input_signature=[
            tf.TensorSpec((None, None, TAGS), name="scores"),
            tf.TensorSpec((None, None), tf.bool, name="mask"),
        ],
    )
    # Without SELECT_TF_OPS and custom operations the converter fails on anything not builtin.
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.run.get_concrete_function()], module
    )
    runner = litert.Interpreter(model_content=converter.convert()).get_signature_runner()
    for batch, length in [(1, 6), (3, 9), (2, 1)]:
        scores = random(batch, length, TAGS, seed=length)
        mask = np.random.default_rng(length).random((batch, length)) < 0.7
        got = runner(scores=scores, mask=mask)
        np.testing.assert_array_equal(got["tag_ids"], layer.decode(scores, mask))
        np.testing.assert_allclose(got["marginals"], layer.marginals(scores, mask), atol=1e-5)
