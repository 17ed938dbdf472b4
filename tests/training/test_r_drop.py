"""Regularized dropout, and the divergence that it asks of a task."""

import numpy as np
import pytest
import tensorflow as tf

from lingxi.training import AdamW, KlDivergence, RDrop, token_divergence, yes_or_no
from lingxi.training.losses import IGNORED
from lingxi.training.technique import dropout_states

TEXTS = ["the good film", "a bad river", "good"]
LABELS = tf.constant([1, 0, 1])


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def divergence(p, q):
    p, q = log_softmax(p), log_softmax(q)
    return (np.exp(p) * (p - q)).sum(-1)


def logits(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def test_the_divergence_is_that_of_the_distributions():
    p, q = logits(4, 3), logits(4, 3, seed=1)
    assert float(KlDivergence()(p, q)) == pytest.approx(divergence(p, q).mean(), rel=1e-5)
    assert float(KlDivergence()(p, p + 7.0)) == pytest.approx(0, abs=1e-6)
    weights = np.array([1.0, 0.0, 2.0, 0.5])
    wanted = (divergence(p, q) * weights).mean()
    assert float(KlDivergence()(p, q, weights)) == pytest.approx(wanted, rel=1e-5)


def test_the_divergence_of_tokens_leaves_padding_out():
    p, q = logits(2, 4, 5), logits(2, 4, 5, seed=1)
    labels = np.array([[1, 2, IGNORED, IGNORED], [3, IGNORED, 0, 4]])
    wanted = divergence(p, q)[labels != IGNORED].mean()
    assert float(token_divergence(labels, p, q)) == pytest.approx(wanted, rel=1e-5)


def test_a_label_is_a_choice_between_yes_and_no():
    z = logits(3, 2)
    p = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(tf.nn.softmax(yes_or_no(z))[..., 0], p, rtol=1e-6)


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_loss_is_the_formula_of_the_paper(tiny_classifier, multi_label):
    task = tiny_classifier(config={"dropout": 0.3}, multi_label=multi_label)
    task.compile(AdamW(1e-3), run_eagerly=True)
    x = task.tokenizer(TEXTS)
    y = tf.constant([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]) if multi_label else LABELS
    weights = tf.constant([1.0, 2.0, 0.5])
    before = [tf.identity(state.value) for state in dropout_states(task)]
    with tf.GradientTape() as tape:
        first, second = (task(x, training=True) for _ in range(2))
        losses = [task.compute_loss(x, y, outputs, weights) for outputs in (first, second)]
        if multi_label:
            p, q = (tf.stack([tf.sigmoid(z), tf.sigmoid(-z)], axis=-1) for z in (first, second))
        else:
            p, q = tf.nn.softmax(first), tf.nn.softmax(second)
        both = tf.reduce_sum((p - q) * tf.math.log(p / q), axis=-1)  # KL of p, q and of q, p
        both = tf.reduce_mean(both, axis=1) if multi_label else both
        kl = tf.reduce_mean(both * weights)
        wanted = losses[0] + losses[1] + 4.0 / 2 * kl
    assert float(kl) > 1e-4
    expected = tape.gradient(wanted, task.trainable_weights)
    for state, value in zip(dropout_states(task), before, strict=True):
        state.assign(value)
    loss, outputs, gradients = RDrop(alpha=4.0).loss_and_gradients(task, x, y, weights, lambda x: x)
    assert float(loss) == pytest.approx(float(wanted), rel=1e-5)
    np.testing.assert_array_equal(outputs, first)
    for gradient, same in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(
            tf.convert_to_tensor(gradient), tf.convert_to_tensor(same), rtol=1e-3, atol=1e-6
        )


def test_a_model_without_dropout_is_refused(tiny_classifier):
    task = tiny_classifier()
    task.compile(AdamW(1e-3), technique=RDrop(), run_eagerly=True)
    with pytest.raises(ValueError, match="this model has none"):
        task.fit(TEXTS, ["positive", "negative", "positive"], verbose=0)


def test_alpha_must_be_positive_and_is_saved():
    with pytest.raises(ValueError, match="alpha must be above 0, got 0"):
        RDrop(0)
    assert RDrop.from_config(RDrop(2.0).get_config()).alpha == 2.0
