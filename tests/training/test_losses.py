"""The loss over tokens, and their accuracy."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingxi.training import IGNORED, TokenAccuracy, TokenCrossEntropy


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


def test_it_is_the_loss_of_pytorch():
    torch = pytest.importorskip("torch")
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
