"""Losses and metrics over embeddings of pairs, by their definitions."""

import keras
import numpy as np
import pytest

from lingxi.training import CosineCorrelation, CosineLoss, InBatchNegatives, RetrievalAccuracy


def embeddings(batch=5, texts=2, dim=4, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, texts, dim)).astype("float32")


def different(batch=5, texts=2):
    """Numbers of texts that are all different."""
    return np.arange(batch * texts, dtype="int32").reshape(texts, batch).T


def cosines(a, b):
    return np.array([[x @ y / np.linalg.norm(x) / np.linalg.norm(y) for y in b] for x in a])


def cross_entropy(scores):
    """Of row i and its column i."""
    return np.mean([np.log(np.exp(row).sum()) - row[i] for i, row in enumerate(scores)])


@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_right_text_is_found_among_those_of_the_batch(batch, temperature):
    x = embeddings(batch)
    wanted = cross_entropy(cosines(x[:, 0], x[:, 1]) / temperature)
    got = float(InBatchNegatives(temperature)(different(batch), x))
    assert got == pytest.approx(wanted, rel=1e-5, abs=1e-5)


def test_symmetric_is_the_mean_of_both_directions():
    x = embeddings()
    scores = cosines(x[:, 0], x[:, 1]) / 0.1
    wanted = (cross_entropy(scores) + cross_entropy(scores.T)) / 2
    assert float(InBatchNegatives(0.1, True)(different(), x)) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("symmetric", [False, True])
def test_negatives_are_wrong_answers_for_every_query(symmetric):
    x = embeddings(texts=3)
    scores = cosines(x[:, 0], np.concatenate([x[:, 1], x[:, 2]]))
    wanted = cross_entropy(scores)
    if symmetric:
        wanted = (wanted + cross_entropy(scores[:, :5].T)) / 2
    got = float(InBatchNegatives(1.0, symmetric)(different(texts=3), x))
    assert got == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("column", [0, 1], ids=["queries", "right texts"])
def test_equal_texts_are_no_wrong_answers(column):
    """Rows 1 and 3 share a text: neither is compared with the right text of the other."""
    x, texts = embeddings(), different()
    texts[3, column] = texts[1, column]
    scores = cosines(x[:, 0], x[:, 1])
    scores[1, 3] = scores[3, 1] = -np.inf
    assert float(InBatchNegatives(1.0)(texts, x)) == pytest.approx(cross_entropy(scores), rel=1e-5)


def test_a_negative_that_is_a_right_text_is_no_wrong_answer():
    x, texts = embeddings(texts=3), different(texts=3)
    texts[4, 2] = texts[0, 1]
    scores = cosines(x[:, 0], np.concatenate([x[:, 1], x[:, 2]]))
    scores[0, 5 + 4] = -np.inf
    assert float(InBatchNegatives(1.0)(texts, x)) == pytest.approx(cross_entropy(scores), rel=1e-5)


def test_sample_weights_weigh_the_queries():
    x = embeddings()
    loss = InBatchNegatives(reduction="none")
    each = np.array(loss(different(), x))
    weights = np.array([0, 1, 2, 0, 3], "float32")
    np.testing.assert_allclose(loss(different(), x, weights), each * weights, rtol=1e-6)


def test_accuracy_is_the_share_of_queries_whose_text_is_nearest():
    x = embeddings(batch=20, seed=1)
    metric = RetrievalAccuracy()
    metric.update_state(different(20), x)
    nearest = cosines(x[:, 0], x[:, 1]).argmax(1)
    assert float(metric.result()) == pytest.approx(np.mean(nearest == np.arange(20)))
    x[:, 1] = x[:, 0]
    metric.reset_state()
    metric.update_state(different(20), x)
    assert float(metric.result()) == 1.0


def test_the_cosine_loss_is_the_squared_error():
    x, y = embeddings(), np.array([1, -1, 0, 0.5, 0.25], "float32")
    wanted = np.mean((np.diag(cosines(x[:, 0], x[:, 1])) - y) ** 2)
    assert float(CosineLoss()(y, x)) == pytest.approx(wanted, rel=1e-5)


def test_correlation_is_that_of_all_batches_together():
    x, y = embeddings(batch=30), np.random.default_rng(2).uniform(-1, 1, 30).astype("float32")
    metric = CosineCorrelation()
    for start in (0, 7, 20):
        part = slice(start, {0: 7, 7: 20, 20: 30}[start])
        metric.update_state(y[part], x[part])
    wanted = np.corrcoef(np.diag(cosines(x[:, 0], x[:, 1])), y)[0, 1]
    assert float(metric.result()) == pytest.approx(wanted, abs=1e-5)


def test_weights_of_zero_leave_pairs_out_of_the_correlation():
    x, y = embeddings(batch=30), np.random.default_rng(2).uniform(-1, 1, 30).astype("float32")
    weights = (np.arange(30) % 3 > 0).astype("float32")
    metric = CosineCorrelation()
    metric.update_state(y, x, weights)
    kept = weights > 0
    wanted = np.corrcoef(np.diag(cosines(x[:, 0], x[:, 1]))[kept], y[kept])[0, 1]
    assert float(metric.result()) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("batch", [0, 1])
def test_a_correlation_of_nothing_is_0(batch):
    metric = CosineCorrelation()
    if batch:
        metric.update_state(np.ones(1, "float32"), embeddings(1))
    assert float(metric.result()) == 0.0


def test_a_temperature_of_0_is_refused():
    with pytest.raises(ValueError, match="above 0, got 0"):
        InBatchNegatives(0)


@pytest.mark.parametrize("loss", [InBatchNegatives(0.1, True), CosineLoss()])
def test_losses_come_back_from_their_config(loss):
    config = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == loss.get_config()
