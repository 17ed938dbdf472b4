"""The losses over labels and over tokens, and their accuracy."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingxi.training import (
    IGNORED,
    ClassCrossEntropy,
    FocalLoss,
    TokenAccuracy,
    TokenCrossEntropy,
)


def example(batch=3, seq=5, vocab=7, seed=0):
    """Labels with padding at the end of each row but the first, and logits."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, vocab, (batch, seq)).astype("int32")
    labels[np.arange(seq) >= seq - np.arange(batch)[:, np.newaxis]] = IGNORED
    return labels, random.normal(size=(batch, seq, vocab)).astype("float32")


def by_one_hot(labels, logits, smoothing):
    """The mean over real tokens, as the definition of label smoothing says it."""
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    vocab = logits.shape[-1]
    target = (1 - smoothing) * np.eye(vocab)[np.maximum(labels, 0)] + smoothing / vocab
    return -(target * log_p).sum(-1)[labels != IGNORED].mean()


@settings(max_examples=20)
@given(
    batch=st.integers(1, 4),
    seq=st.integers(4, 6),
    vocab=st.integers(1, 9),
    smoothing=st.sampled_from([0.0, 0.1, 0.9]),
)
def test_it_is_the_cross_entropy_with_smoothed_one_hot_vectors(batch, seq, vocab, smoothing):
    labels, logits = example(batch, seq, vocab)
    got = float(TokenCrossEntropy(smoothing)(labels, logits))
    assert got == pytest.approx(by_one_hot(labels, logits, smoothing), rel=1e-5, abs=1e-6)


def test_it_is_the_loss_of_pytorch(torch):
    labels, logits = example()
    wanted = torch.nn.CrossEntropyLoss(label_smoothing=0.1)(
        torch.tensor(logits).flatten(0, 1), torch.tensor(labels).long().flatten()
    )
    assert float(TokenCrossEntropy(0.1)(labels, logits)) == pytest.approx(wanted.item(), rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_padding_does_not_change_the_loss(smoothing):
    labels, logits = example()
    wider = np.pad(labels, ((0, 2), (0, 3)), constant_values=IGNORED)
    random = np.random.default_rng(1).normal(size=(5, 8, 7)).astype("float32") * 50
    random[:3, :5] = logits
    loss = TokenCrossEntropy(smoothing)
    assert float(loss(wider, random)) == pytest.approx(float(loss(labels, logits)), rel=1e-6)


def test_padding_has_no_gradient():
    import tensorflow as tf

    labels, logits = example()
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = TokenCrossEntropy(0.1)(labels, logits)
    gradient = tape.gradient(loss, logits).numpy()
    assert (gradient[labels == IGNORED] == 0).all()
    assert (np.abs(gradient[labels != IGNORED]).max(-1) > 0).all()
    np.testing.assert_allclose(gradient.sum(-1), 0, atol=1e-7)


def test_only_padding_is_a_loss_of_zero():
    labels, logits = example()
    assert float(TokenCrossEntropy()(np.full_like(labels, IGNORED), logits)) == 0.0


def test_weights_weigh_pairs():
    labels, logits = example()
    loss = TokenCrossEntropy(0.1)
    only_second = float(loss(labels, logits, np.array([0.0, 2.0, 0.0])))
    assert only_second == pytest.approx(float(loss(labels[1:2], logits[1:2])), rel=1e-6)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_a_smoothing_that_is_no_share_is_named(smoothing):
    with pytest.raises(ValueError, match=f"got {smoothing}"):
        TokenCrossEntropy(smoothing)


def test_it_is_serialized():
    loss = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(TokenCrossEntropy(0.2))
    )
    assert isinstance(loss, TokenCrossEntropy)
    assert loss.label_smoothing == 0.2


def test_accuracy_counts_real_tokens():
    labels, logits = example()
    right = (logits.argmax(-1) == labels)[labels != IGNORED]
    metric = TokenAccuracy()
    metric.update_state(labels[:2], logits[:2])
    metric.update_state(labels[2:], logits[2:])
    assert float(metric.result()) == pytest.approx(right.mean())


def focal(one_hot, logits, gamma=0.0, alpha=1.0, smoothing=0.0):
    """`−Σ α (1 − p)^γ q log p` of each row, as the paper writes it."""
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    q = (1 - smoothing) * one_hot + smoothing / logits.shape[-1]
    return -(alpha * (1 - p) ** gamma * q * np.log(p)).sum(-1)


LABELS = np.array([2, 0, 1, 2], "int32")
LOGITS = np.random.default_rng(0).normal(size=(4, 3)).astype("float32") * 2
SEVERAL = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]], "float32")


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize(("gamma", "alpha"), [(0.0, None), (2.0, None), (0.5, [0.2, 1.0, 3.0])])
def test_focal_loss_is_the_formula_of_the_paper(gamma, alpha, smoothing):
    loss = FocalLoss(gamma, alpha, smoothing)
    each = focal(np.eye(3)[LABELS], LOGITS, gamma, alpha or 1.0, smoothing)
    assert float(loss(LABELS, LOGITS)) == pytest.approx(each.mean(), rel=1e-5)
    weights = np.array([1.0, 0.0, 3.0, 0.5])
    assert float(loss(LABELS, LOGITS, weights)) == pytest.approx((each * weights).mean(), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("alpha", [None, 0.25, [0.1, 0.5, 0.9]])
def test_focal_loss_of_several_labels_is_that_of_each(alpha, smoothing):
    p = 1 / (1 + np.exp(-LOGITS))
    q = SEVERAL * (1 - smoothing) + smoothing / 2
    yes, no = (1, 1) if alpha is None else (np.array(alpha), 1 - np.array(alpha))
    each = -yes * (1 - p) ** 2 * q * np.log(p) - no * p**2 * (1 - q) * np.log(1 - p)
    loss = FocalLoss(2.0, alpha, smoothing)
    assert float(loss(SEVERAL, LOGITS)) == pytest.approx(each.mean(), rel=1e-5)
    weights = np.array([1.0, 0.0, 3.0, 0.5])
    wanted = (each.mean(-1) * weights).mean()
    assert float(loss(SEVERAL, LOGITS, weights)) == pytest.approx(wanted, rel=1e-5)


def test_focal_loss_of_tokens_leaves_padding_out():
    labels, logits = example()
    each = focal(np.eye(7)[np.maximum(labels, 0)], logits, 2.0)
    wanted = each[labels != IGNORED].mean()
    assert float(FocalLoss()(labels, logits)) == pytest.approx(wanted, rel=1e-5)


def test_without_options_it_is_the_cross_entropy_of_keras():
    wanted = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(LABELS, LOGITS)
    assert float(ClassCrossEntropy()(LABELS, LOGITS)) == pytest.approx(float(wanted), rel=1e-6)
    wanted = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1)
    found = float(ClassCrossEntropy(0.1)(SEVERAL, LOGITS))
    assert found == pytest.approx(float(wanted(SEVERAL, LOGITS)), rel=1e-5)


def test_focal_loss_has_finite_gradients_where_all_is_clear():
    import tensorflow as tf

    logits = tf.constant([[200.0, -200.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = FocalLoss(0.5)(np.array([0]), logits) + FocalLoss(0.5)(np.array([1]), logits)
    assert np.isfinite(tape.gradient(loss, logits)).all()


def test_focal_loss_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match="gamma must be 0 or more, got -1"):
        FocalLoss(-1)
    with pytest.raises(ValueError, match="each alpha must be 0 or more"):
        FocalLoss(alpha=[1.0, -0.5])
    with pytest.raises(ValueError, match="alpha must have 3 numbers"):
        FocalLoss(alpha=[1.0, 2.0])(LABELS, LOGITS)


def test_a_classifier_learns_by_focal_loss_and_keeps_it(tiny_classifier, tmp_path):
    task = tiny_classifier()
    task.compile(loss=FocalLoss(2.0, alpha=[1.0, 2.0]), run_eagerly=True)
    history = task.fit(["good", "bad"], ["positive", "negative"], verbose=0).history
    assert np.isfinite(history["loss"]).all()
    task.save(tmp_path / "task.keras")
    loss = keras.saving.load_model(tmp_path / "task.keras").loss
    assert isinstance(loss, FocalLoss)
    assert (loss.gamma, loss.alpha, loss.label_smoothing) == (2.0, [1.0, 2.0], 0.0)
