"""The scores of entities against seqeval."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from lingxi.text.tags import TagScheme
from lingxi.training import IGNORED, EntityScores, entity_report

seqeval = pytest.importorskip("seqeval.metrics", reason="needs the extra `metrics`")
from seqeval.scheme import IOBES as STRICT_IOBES  # noqa: E402

BIO = TagScheme.for_types(["PER", "LOC"])
IOBES = TagScheme.for_types(["PER", "LOC"], "IOBES")
both_schemes = pytest.mark.parametrize("scheme", [BIO, IOBES], ids=["BIO", "IOBES"])


def rows_of(draw, scheme, min_size=1):
    """Texts as lists of `(gold, predicted)` tag ids, any at all; often equal ones."""
    tag = st.integers(0, len(scheme.names) - 1)
    pair = st.one_of(st.tuples(tag, tag), tag.map(lambda value: (value, value)))
    return draw(st.lists(st.lists(pair, max_size=7), min_size=min_size, max_size=6))


def batch_of(rows, num_tags, seed=0):
    """Labels and logits with ignored positions before, between and behind the words."""
    generator = np.random.default_rng(seed)
    width = max(map(len, rows), default=0) + 3
    labels = np.full((len(rows), width), IGNORED, "int64")
    logits = generator.normal(size=(len(rows), width, num_tags)).astype("float32")
    for index, row in enumerate(rows):
        places = np.sort(generator.choice(width, len(row), replace=False))
        for place, (gold, predicted) in zip(places, row, strict=True):
            labels[index, place] = gold
            logits[index, place, predicted] = 9.0
    return labels, logits


def named(scheme, rows, which):
    return [[scheme.names[pair[which]] for pair in row] for row in rows]


def scores_of_seqeval(tag_scheme, rows, **kwargs):
    gold, predicted = named(tag_scheme, rows, 0), named(tag_scheme, rows, 1)
    return {
        name: getattr(seqeval, f"{name}_score")(gold, predicted, zero_division=0, **kwargs)
        for name in ("precision", "recall", "f1")
    }


def result(metric):
    return {name: float(value) for name, value in metric.result().items()}


@both_schemes
@settings(max_examples=60)
@given(st.data())
def test_batches_of_any_tags_add_up_to_the_scores_of_seqeval(scheme, data):
    # Its default mode, for malformed sequences of both schemes.
    metric, everything = EntityScores(scheme.names), []
    for seed in range(data.draw(st.integers(1, 3))):
        rows = rows_of(data.draw, scheme)
        metric.update_state(*batch_of(rows, len(scheme.names), seed))
        everything += rows
    assert result(metric) == pytest.approx(scores_of_seqeval(scheme, everything), abs=1e-6)


def test_well_formed_tags_have_the_scores_of_strict_seqeval():
    gold = [[(0, 2, "PER"), (2, 3, "PER"), (4, 7, "LOC")], [(1, 2, "LOC")], []]
    predicted = [[(0, 2, "PER"), (2, 4, "PER"), (4, 7, "LOC")], [(1, 2, "PER")], [(0, 1, "LOC")]]
    rows = [
        list(zip(IOBES.tags_of(wanted, 7), IOBES.tags_of(got, 7), strict=True))
        for wanted, got in zip(gold, predicted, strict=True)
    ]
    metric = EntityScores(IOBES.names)
    metric.update_state(*batch_of(rows, len(IOBES.names)))
    strict = scores_of_seqeval(IOBES, rows, mode="strict", scheme=STRICT_IOBES)
    assert result(metric) == pytest.approx(strict)
    assert result(metric) == pytest.approx({"precision": 2 / 5, "recall": 2 / 4, "f1": 4 / 9})


def test_an_entity_needs_its_first_word_its_last_word_and_its_type():
    gold = BIO.tags_of([(1, 3, "PER")], 5)
    metric = EntityScores(BIO.names)
    for span, f1 in [
        ((1, 3, "PER"), 1),
        ((1, 4, "PER"), 0),
        ((0, 3, "PER"), 0),
        ((2, 3, "PER"), 0),
        ((1, 3, "LOC"), 0),
    ]:
        metric.reset_state()
        rows = [list(zip(gold, BIO.tags_of([span], 5), strict=True))]
        metric.update_state(*batch_of(rows, 5))
        assert result(metric)["f1"] == f1, span


@pytest.mark.parametrize("shape", [(2, 3), (2, 0), (0, 3)], ids=str)
def test_without_words_all_scores_are_zero(shape):
    metric = EntityScores(BIO.names)
    metric.update_state(np.full(shape, IGNORED), np.zeros((*shape, 5), "float32"))
    assert result(metric) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


@settings(max_examples=20)
@given(st.data())
def test_rows_of_weight_zero_do_not_count(data):
    rows = rows_of(data.draw, BIO)
    keep = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    labels, logits = batch_of(rows, 5)
    weighted, selected = EntityScores(BIO.names), EntityScores(BIO.names)
    weights = np.array(keep, "float32")
    weighted.update_state(labels, logits, weights)
    selected.update_state(labels[keep], logits[keep])
    assert result(weighted) == result(selected)
    weighted.update_state(labels, logits, np.tile(weights[:, np.newaxis], labels.shape[1]))
    assert result(weighted) == pytest.approx(result(selected))


def test_one_trace_serves_batches_of_every_shape():
    metric = EntityScores(IOBES.names)
    num_tags = len(IOBES.names)

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, None), tf.int64),
            tf.TensorSpec((None, None, num_tags)),
        ]
    )
    def update(labels, logits):
        metric.update_state(labels, logits)

    rows = [[(1, 1), (3, 3), (0, 4)], [], [(4, 4)] * 9]
    for part in (rows, rows[:1], rows[1:2]):
        update(*batch_of(part, num_tags))
    eager = EntityScores(IOBES.names)
    for part in (rows, rows[:1], rows[1:2]):
        eager.update_state(*batch_of(part, num_tags))
    assert result(metric) == result(eager)
    assert 0 < result(metric)["f1"] < 1


def test_training_stops_early_by_the_f1_of_validation():
    generator = np.random.default_rng(0)
    x = generator.integers(0, 5, (64, 6))
    y = np.where(generator.random((64, 6)) < 0.2, IGNORED, x)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Embedding(5, 5)])
    model.compile(
        optimizer=keras.optimizers.Adam(0.3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=IGNORED),
        metrics=[EntityScores(BIO.names)],
    )
    stop = keras.callbacks.EarlyStopping("val_f1", mode="max", patience=2)
    logs = model.fit(
        x, y, epochs=30, batch_size=16, validation_data=(x[:7], y[:7]), callbacks=[stop], verbose=0
    ).history
    assert len(logs["val_f1"]) < 30
    assert logs["val_f1"][-1] == logs["val_precision"][-1] == logs["val_recall"][-1] == 1.0
    assert logs["f1"][-1] == 1.0
    assert model.evaluate(x, y, verbose=0, return_dict=True)["f1"] == 1.0


def test_a_configuration_makes_an_equal_metric():
    metric = EntityScores(IOBES.names, name="entities")
    copy = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert copy.name == "entities"
    assert copy.scheme.names == IOBES.names


@both_schemes
@given(st.data())
def test_the_report_of_each_type_is_that_of_seqeval(scheme, data):
    rows = rows_of(data.draw, scheme)
    gold, predicted = named(scheme, rows, 0), named(scheme, rows, 1)
    report = entity_report(
        scheme.names,
        [[pair[0] for pair in row] for row in rows],
        [[pair[1] for pair in row] for row in rows],
    )
    assert list(report) == ["PER", "LOC"]
    if any(tag != "O" for row in gold + predicted for tag in row):  # without any it fails
        wanted = seqeval.classification_report(gold, predicted, output_dict=True, zero_division=0)
        for kind, scores in report.items():
            expected = wanted.get(kind, dict.fromkeys(["a", "b", "c", "d"], 0))
            assert tuple(scores) == pytest.approx(tuple(expected.values()))


def test_a_report_needs_as_many_predictions_as_tags():
    with pytest.raises(ValueError, match="1 texts, but predictions of 2"):
        entity_report(BIO.names, [[0]], [[0], [0]])
    with pytest.raises(ValueError, match="text 1 has 2 tags, but 1 predictions"):
        entity_report(BIO.names, [[0], [0, 0]], [[0], [0]])
