"""Mixup and cutoff: the formulas, what they change, and which tasks they train."""

import numpy as np
import pytest
import tensorflow as tf

from lingxi.layers import changed_embeddings
from lingxi.tasks import TextRegressor, TokenClassifier
from lingxi.training import AdamW, Cutoff, Mixup
from tests.tasks.test_multi_task import encoder
from tests.tasks.test_token_classifier import examples as entities

TEXTS = ["the good film", "a bad river and a poor night", "good"]
LABELS = tf.constant([1, 0, 1])
WEIGHTS = tf.constant([1.0, 2.0, 0.5])


@pytest.fixture
def recorded(monkeypatch):
    """A list of what every change of embeddings was given and gave."""
    import lingxi.training.mixing as mixing

    found = []

    def watched(change):
        def call(token_ids, embeddings):
            found.append((embeddings, change(token_ids, embeddings)))
            return found[-1][1]

        return changed_embeddings(call)

    monkeypatch.setattr(mixing, "changed_embeddings", watched)
    return found


def compiled(tiny_classifier, technique, **kwargs):
    task = tiny_classifier(**kwargs)
    task.compile(AdamW(1e-3), technique=technique, run_eagerly=True)
    return task, task.tokenizer(TEXTS)


@pytest.mark.parametrize("multi_label", [False, True])
def test_mixup_is_the_formula_of_the_paper(tiny_classifier, recorded, multi_label):
    mixup = Mixup(alpha=1.0, seed=3)
    task, x = compiled(tiny_classifier, mixup, multi_label=multi_label)
    y = tf.constant([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]) if multi_label else LABELS
    loss, outputs, gradients = mixup.loss_and_gradients(task, x, y, WEIGHTS, lambda loss: loss)
    ((before, after),) = recorded
    own = np.where(x["padding_mask"][..., None], before, 0.0)

    share, partner = np.zeros(3), np.zeros(3, int)
    for row in range(3):  # which text was mixed in, and how much of it
        fits = {}
        for other in range(3):
            step = own[row] - own[other]
            part = (
                1.0
                if other == row
                else np.vdot(after[row] - own[other], step) / np.vdot(step, step)
            )
            fits[other] = np.abs(part * own[row] + (1 - part) * own[other] - after[row]).max(), part
        partner[row] = min(fits, key=lambda other: fits[other][0])
        error, share[row] = fits[partner[row]]
        assert error < 1e-5
    assert sorted(partner) == [0, 1, 2] and (partner != range(3)).any()
    assert (share >= 0.5).all()

    def losses(labels):
        if multi_label:
            return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, outputs), axis=1)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, outputs)

    wanted = share * WEIGHTS * losses(y)
    wanted += (1 - share) * tf.gather(WEIGHTS, partner) * losses(tf.gather(y, partner))
    assert float(loss) == pytest.approx(float(tf.reduce_mean(wanted)), rel=1e-4)
    assert all(np.isfinite(tf.convert_to_tensor(gradient)).all() for gradient in gradients)


def test_a_text_that_is_mixed_with_a_longer_one_is_read_to_its_end(tiny_classifier, monkeypatch):
    mixup = Mixup(seed=3)
    task, x = compiled(tiny_classifier, mixup)
    seen = []
    call = task.backbone.call
    monkeypatch.setattr(
        task.backbone,
        "call",
        lambda inputs, **kwargs: seen.append(inputs["padding_mask"]) or call(inputs, **kwargs),
    )
    mixup.loss_and_gradients(task, x, LABELS, None, lambda loss: loss)
    before, after = x["padding_mask"].numpy(), seen[0].numpy()
    assert (after >= before).all() and after.sum() > before.sum()


@pytest.mark.parametrize("kind", ["token", "span", "feature"])
def test_cutoff_is_its_formula(tiny_classifier, recorded, kind):
    cutoff = Cutoff(0.3, kind, weight=0.5, consistency=2.0, seed=1)
    task, x = compiled(tiny_classifier, cutoff)
    loss, whole, gradients = cutoff.loss_and_gradients(task, x, LABELS, WEIGHTS, lambda loss: loss)
    ((before, after),) = recorded
    kept = np.array(after) != 0
    np.testing.assert_array_equal(np.where(kept, before, 0.0), after)
    assert not kept.all()

    np.testing.assert_allclose(whole, task(x), atol=1e-6)
    with changed_embeddings(lambda ids, embeddings: after):
        rest = task(x)
    p, q = tf.nn.softmax(whole), tf.nn.softmax(rest)
    both = tf.reduce_sum((p - q) * tf.math.log(p / q), axis=-1)
    wanted = task.compute_loss(x, LABELS, whole, WEIGHTS)
    wanted += 0.5 * task.compute_loss(x, LABELS, rest, WEIGHTS)
    wanted += 2.0 * tf.reduce_mean(both * WEIGHTS) / 2
    assert float(loss) == pytest.approx(float(wanted), rel=1e-4)
    assert all(np.isfinite(tf.convert_to_tensor(gradient)).all() for gradient in gradients)


def cuts(kind, lengths, rate=0.25, hidden=8, seed=0):
    """Which places are cut: bool `[batch, seq or 1, hidden or 1]`."""
    mask = tf.sequence_mask(lengths, max(lengths), tf.float32)[..., None]
    return ~Cutoff(rate, kind, seed=seed).kept(mask, (*mask.shape[:2], hidden)).numpy()


def test_tokens_are_cut_at_their_rate_but_neither_the_first_nor_padding():
    lengths = [21, 9, 1] * 30
    cut = cuts("token", lengths)[..., 0]
    assert cut.sum(axis=1).tolist() == [5, 2, 0] * 30
    assert not cut[:, 0].any()
    assert all(not row[length:].any() for row, length in zip(cut, lengths, strict=True))
    assert cut[::3, 1:].any(axis=0).all()


def test_a_span_is_cut_in_one_piece_anywhere():
    lengths = [21, 9, 1] * 200
    cut = cuts("span", lengths)[..., 0]
    assert cut.sum(axis=1).tolist() == [5, 2, 0] * 200
    starts = {int(row.argmax()) for row in cut[::3]}
    assert starts == set(range(1, 17))
    assert all(row[row.argmax() :][: row.sum()].all() for row in cut)
    assert not any(row[length:].any() for row, length in zip(cut, lengths, strict=True))


def test_features_are_cut_of_all_tokens():
    cut = cuts("feature", [4, 2])
    assert cut.shape == (2, 1, 8)
    assert cut.sum(axis=2).tolist() == [[2], [2]]


@pytest.mark.parametrize("technique", [Mixup, Cutoff], ids=lambda kind: kind.__name__)
def test_a_classifier_learns_by_it(tiny_classifier, technique):
    classifier = tiny_classifier()
    classifier.compile(AdamW(3e-3), technique=technique(seed=1))
    words = ["bad", "good", "dull", "fine", "awful", "lovely"] * 8
    texts = [f"{'the ' * (place % 3)}{word} film" for place, word in enumerate(words)]
    labels = [0, 1] * 24
    history = classifier.fit(texts, labels, epochs=10, batch_size=16, seed=0, verbose=0).history
    assert history["accuracy"][-1] > 0.9


def test_a_regressor_learns_by_them(vocabulary):
    regressor = TextRegressor(*encoder(vocabulary))
    for technique in (Mixup(), Cutoff()):
        regressor.compile(AdamW(1e-3), technique=technique, run_eagerly=True)
        losses = regressor.fit(TEXTS, [0.1, 0.9, 0.5], verbose=0).history["loss"]
        assert np.isfinite(losses).all()


def test_a_tagger_learns_by_cutoff_but_not_by_mixup(vocabulary):
    tagger = TokenClassifier(*encoder(vocabulary), ["PLACE", "FOOD"])
    tagger.compile(AdamW(1e-3), technique=Cutoff(), run_eagerly=True)
    assert np.isfinite(tagger.fit(*entities(8), verbose=0).history["loss"]).all()
    tagger.compile(AdamW(1e-3), technique=Mixup(), run_eagerly=True)
    with pytest.raises(TypeError, match="Mixup is for .* not for a TokenClassifier"):
        tagger.fit(*entities(8), verbose=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mixup(0), "alpha must be above 0, got 0"),
        (lambda: Cutoff(1.0), "rate must be below 1, got 1.0"),
        (lambda: Cutoff(kind="word"), "kind must be one of"),
        (lambda: Cutoff(consistency=-1), "consistency must not be negative, got -1"),
    ],
)
def test_errors_say_what_is_accepted(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("technique", [Mixup(0.4, seed=2), Cutoff(0.2, "span", 0.5, 2.0, 3)])
def test_its_config_makes_it_again(technique):
    again = type(technique).from_config(technique.get_config())
    assert again.get_config() == technique.get_config()
