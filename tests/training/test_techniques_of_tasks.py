"""Techniques train every task for which they make sense, and go on after a failure."""

import keras
import numpy as np
import pytest

from lingxi.tasks import MaskedLanguageModel, TextEmbedder, TextRegressor, TokenClassifier
from lingxi.training import (
    AdamW,
    Checkpoints,
    Fgm,
    FreeLb,
    RDrop,
    VirtualAdversarial,
    adversarial,
)
from lingxi.training.losses import IGNORED
from tests.tasks.questions import tiny_answerer, toy_questions
from tests.tasks.test_multi_task import encoder
from tests.tasks.test_resume import Dies, assert_same
from tests.tasks.test_sequence_to_sequence import PAIRS
from tests.tasks.test_sequence_to_sequence import new as new_translator
from tests.tasks.test_text_generator import TEXT, new_generator
from tests.tasks.test_token_classifier import examples as entities

TEXTS = ["the good film", "a bad river and a poor night", "good"]


def answerer(vocabulary):
    questions, contexts, answers = toy_questions(8)
    pairs = list(zip(questions, contexts, strict=True))
    return tiny_answerer(vocabulary, max_length=24, overlap=4), (pairs, answers)


def masked(vocabulary):
    task = MaskedLanguageModel(*encoder(vocabulary), next_sentence=True)
    return task, (["\n".join(TEXTS), "\n".join(TEXTS[::-1])],)


def tagger(vocabulary, crf=False):
    task = TokenClassifier(*encoder(vocabulary), ["PLACE", "FOOD"], crf=crf)
    return task, entities(8)


MAKERS = {
    "answerer": answerer,
    "embedder": lambda vocabulary: (
        TextEmbedder(*encoder(vocabulary)),
        (list(zip(TEXTS, TEXTS[::-1], strict=True)),),
    ),
    "generator": lambda vocabulary: (new_generator(), ([TEXT[:150]],)),
    "masked": masked,
    "regressor": lambda vocabulary: (TextRegressor(*encoder(vocabulary)), (TEXTS, [0.1, 0.9, 0.5])),
    "tagger": tagger,
    "tagger with a CRF": lambda vocabulary: tagger(vocabulary, crf=True),
    "translator": lambda vocabulary: (new_translator(), tuple(side[:8] for side in PAIRS)),
}
NOT_PROBABLE = {"embedder", "tagger with a CRF"}


@pytest.fixture
def points(monkeypatch):
    """A list of the masks and points of every pass from now on."""
    found = []
    at = adversarial._Passes.at

    def recorded(self, *args, **kwargs):
        each = at(self, *args, **kwargs)
        found.append((self.masks, each.point))
        return each

    monkeypatch.setattr(adversarial._Passes, "at", recorded)
    return found


@pytest.mark.parametrize("kind", MAKERS)
def test_every_task_learns_by_them(vocabulary, points, kind):
    task, data = MAKERS[kind](vocabulary)
    task.compile(AdamW(1e-4), technique=FreeLb(steps=2), run_eagerly=True)
    history = task.fit(*data, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    sequences = 2 if kind in ("embedder", "translator") else 1
    masks, point = points[-1]
    assert len(masks) == len(point) == sequences
    for mask, each in zip(masks, point, strict=True):
        assert (np.array(each)[np.array(mask)[..., 0] == 0] == 0).all()
        assert np.abs(each).max() > 0
    task.compile(AdamW(1e-4), technique=VirtualAdversarial(), run_eagerly=True)
    if kind in NOT_PROBABLE:
        with pytest.raises(TypeError, match="no probabilities|whole sequences of tags"):
            task.fit(*data, verbose=0)
    else:
        assert np.isfinite(task.fit(*data, verbose=0).history["loss"]).all()


def test_the_padding_of_a_decoder_is_that_of_its_targets(vocabulary, points):
    task, data = MAKERS["translator"](vocabulary)
    task.compile(AdamW(1e-4))
    ((x, y),) = task._batches(*data, batch_size=8)["x"]
    assert "decoder_padding_mask" not in x
    Fgm().loss_and_gradients(task, x, y, None, lambda loss: loss)
    (source, target), _ = points[0]
    np.testing.assert_array_equal(source[..., 0], x["encoder_padding_mask"])
    np.testing.assert_array_equal(target[..., 0], y != IGNORED)
    assert 0 < target.numpy().mean() < 1


def test_each_task_of_several_has_its_own(vocabulary, points):
    from lingxi.tasks import MultiTask, TextClassifier

    shared = encoder(vocabulary)
    multi = MultiTask(
        {
            "names": TokenClassifier(*shared, ["PLACE", "FOOD"]),
            "sentiment": TextClassifier(*shared, labels=["negative", "positive"]),
        }
    )
    multi["sentiment"].compile(technique=Fgm())
    data = {"names": entities(4), "sentiment": (TEXTS, ["positive", "negative", "positive"])}
    assert np.isfinite(multi.fit(data, schedule="cosine", verbose=0).history["loss"]).all()
    assert points
    with pytest.raises(ValueError, match="technique"):
        multi.compile(technique=Fgm())


@pytest.mark.parametrize("died_at", [1, 3])
def test_a_training_goes_on_to_the_last_bit(tiny_classifier, died_at, tmp_path):
    texts, labels = TEXTS * 4, ["positive", "negative", "positive"] * 4

    def fit(directory, seed, callbacks=(), technique=None):
        task = tiny_classifier(config={"dropout": 0.2})
        keras.utils.set_random_seed(seed)  # not that of the technique in its first process
        task.compile(AdamW(1e-3), technique=technique or FreeLb(steps=2), run_eagerly=True)
        task.fit(
            texts,
            labels,
            epochs=2,
            batch_size=6,
            seed=1,
            resume=Checkpoints(directory, every_steps=1),
            callbacks=list(callbacks),
            verbose=0,
        )
        return task

    whole = fit(tmp_path / "whole", 1)
    with pytest.raises(RuntimeError, match="the power went off"):
        fit(tmp_path / "broken", 1, [Dies(died_at)])
    with pytest.raises(ValueError, match="technique"):
        fit(tmp_path / "broken", 1, technique=RDrop())
    assert_same(fit(tmp_path / "broken", 2), whole)
