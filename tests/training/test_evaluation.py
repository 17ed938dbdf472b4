"""Scores of written texts, and their place in the logs of a training."""

import sys

import keras
import numpy as np
import pytest

from lingxi.training import TextEvaluation
from lingxi.training.evaluation import text_scores

REFERENCES = ["the river is cold today", "a bird sings in the old tree"]


def test_texts_equal_to_the_references_have_100():
    metrics = ("bleu", "chrf", "rouge1", "rouge2", "rougeL")
    assert text_scores(REFERENCES, REFERENCES, metrics) == pytest.approx(
        dict.fromkeys(metrics, 100.0)
    )


def test_bleu_is_that_of_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu")
    texts = ["the river is very cold today", "a bird sings in a tree"]
    wanted = sacrebleu.corpus_bleu(texts, [REFERENCES]).score
    assert text_scores(texts, REFERENCES, ("bleu",)) == {"bleu": pytest.approx(wanted)}


def test_chinese_is_cut_into_characters():
    texts, references = ["我有一个大家"], ["我有一个大家庭"]
    scores = text_scores(texts, references, ("bleu", "bleu-zh"))
    assert scores["bleu-zh"] > 50 > scores["bleu"]


def test_rouge_is_the_mean_of_f1():
    scores = text_scores(["the river", "x"], ["the river is cold", "a bird"], ("rouge1",))
    assert scores["rouge1"] == pytest.approx(100 * (2 / 3 + 0) / 2)


def test_an_unknown_metric_is_named():
    with pytest.raises(ValueError, match="unknown metric 'blue'; there are bleu"):
        text_scores([], [], ("blue",))


def test_other_numbers_of_texts_are_named():
    with pytest.raises(ValueError, match="got 1 texts, but 2 references"):
        text_scores(["a"], REFERENCES, ("bleu",))


@pytest.mark.parametrize(("metric", "package"), [("bleu", "sacrebleu"), ("rouge1", "rouge_score")])
def test_without_the_package_the_extra_is_named(metric, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install 'lingxi\[metrics\]'"):
        TextEvaluation(list, [], [], (metric,))


def trained(write, callbacks=(), epochs=3, **options):
    """The history of a small training with a `TextEvaluation`, and the model."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.1, **options), "mse")
    evaluation = TextEvaluation(lambda texts: write(model, texts), REFERENCES, REFERENCES)
    x = np.ones((4, 1), "float32")
    history = model.fit(
        x, x, epochs=epochs, verbose=0, shuffle=False, callbacks=[evaluation, *callbacks]
    )
    return history, model


def test_scores_are_in_the_history_and_later_callbacks_see_them():
    stop = keras.callbacks.EarlyStopping("val_bleu", mode="max", patience=0)
    history, _ = trained(lambda model, texts: texts, [stop], epochs=5)
    assert history.history["val_bleu"] == pytest.approx([100.0, 100.0])


def test_averaged_weights_write_and_training_goes_on_with_its_own():
    seen = []

    def write(model, texts):
        seen.append(float(model.weights[0][0, 0]))
        return texts

    trained_on = []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: trained_on.append(float(keep.model.weights[0][0, 0]))
    )
    _, model = trained(write, [keep], use_ema=True, ema_momentum=0.5)
    assert len(set(seen) | set(trained_on)) == 5  # the first step's average is the weight itself
    assert seen[1] == pytest.approx((trained_on[0] + trained_on[1]) / 2)
    assert seen[2] == pytest.approx((seen[1] + trained_on[2]) / 2)
    assert float(model.weights[0][0, 0]) == pytest.approx(seen[2])
