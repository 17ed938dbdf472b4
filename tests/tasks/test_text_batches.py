"""Texts that are tokenized in their turn: augmentation and streams in `fit`, balanced labels."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from lingxi.data import TableStream
from lingxi.tasks import TextRegressor, text_data
from lingxi.tasks.text_batches import TextBatches, augmented_dataset
from lingxi.text import Augmentation, OcrNoise, RandomReplacement
from lingxi.training import AdamW, Checkpoints
from tests.tasks.test_multi_task import encoder
from tests.tasks.test_resume import Dies, assert_same


class Recorded(Augmentation):
    """What it is given it says to `seen`, with the number drawn for it."""

    def __init__(self):
        super().__init__(1.0)
        self.seen = []

    def change(self, texts, seed):
        def note(texts, number):
            self.seen.append((texts.tolist(), int(number)))
            return np.array([b"the " + text for text in texts], object)

        number = tf.random.stateless_uniform([], seed, 0, 10**6, tf.int32)
        changed = tf.numpy_function(note, [texts, number], tf.string)
        changed.set_shape(texts.shape)
        return changed


@pytest.fixture
def table(toy, tmp_path):
    """The toy task as a file."""
    path = tmp_path / "toy.csv"
    rows = (f"{text},{label}\n" for text, label in zip(*toy, strict=True))
    path.write_text("text,label\n" + "".join(rows))
    return path


def texts_of(batches, task):
    """The texts of each batch of a data set, without the blanks of the tokenizer."""
    return [task.tokenizer.decode(inputs["token_ids"].numpy()) for inputs, *_ in batches]


def batches_of(task, toy, **options):
    return TextBatches.of_texts(task, *toy, batch_size=8, seed=5, **options)


def test_a_pass_has_every_example_once_in_batches_of_similar_length(tiny_classifier, toy):
    task = tiny_classifier()
    data = batches_of(task, toy).dataset()
    assert int(data.cardinality()) == 8
    first, second = (list(data) for _ in range(2))
    assert sorted(itertools.chain(*texts_of(first, task))) == sorted(toy[0])
    assert texts_of(first, task) != texts_of(second, task)
    labels = {text: task.labels.index(label) for text, label in zip(*toy, strict=True)}
    for batch, texts in zip(first, texts_of(first, task), strict=True):
        assert batch[1].numpy().tolist() == [labels[text] for text in texts]
    real = [inputs["padding_mask"].numpy().mean() for inputs, _ in first]
    assert np.mean(real) > 0.85


def test_a_stream_of_batches_begins_anywhere(tiny_classifier, toy):
    task = tiny_classifier()
    options = {"augmentation": RandomReplacement(0.5)}
    whole = batches_of(task, toy, **options).dataset().repeat()
    wanted = texts_of(whole.take(20), task)
    for first in (0, 3, 8, 13):
        rest = batches_of(task, toy, **options).stream(first).take(20 - first)
        assert texts_of(rest, task) == wanted[first:]


def test_few_shapes_where_each_is_compiled(tiny_classifier, toy, monkeypatch):
    task = tiny_classifier()
    plain = list(TextBatches.of_texts(task, *toy, batch_size=7, order="given").dataset())
    monkeypatch.setattr(text_data, "LENGTH_STEP", 4)
    batches = list(TextBatches.of_texts(task, *toy, batch_size=7, order="given").dataset())
    assert {inputs["token_ids"].shape[1] % 4 for inputs, _ in batches} == {0}
    for (inputs, labels), (others, same) in zip(batches, plain, strict=True):
        np.testing.assert_array_equal(labels, same)
        np.testing.assert_allclose(task(inputs), task(others), atol=1e-6)


def test_weights_and_pairs_stay_with_their_texts(tiny_classifier, toy):
    texts = toy[0][:20]
    task = tiny_classifier()
    pairs = [(text, f"{len(text)}") for text in texts]
    weights = [float(len(text)) for text in texts]
    batches = TextBatches.of_texts(task, pairs, toy[1][:20], weights, batch_size=8, seed=1)
    for inputs, _, weight in batches.dataset():
        decoded = task.tokenizer.decode(inputs["token_ids"].numpy())
        assert [text.split()[-1] for text in decoded] == [str(int(w)) for w in weight.numpy()]


def test_training_texts_are_augmented_anew_and_others_never(learner, few):
    augmentation, classifier = Recorded(), learner()
    dev = (["the bad film"], ["negative"])
    options = {"epochs": 2, "batch_size": 8, "seed": 0, "verbose": 0}
    classifier.fit(*few, validation_data=dev, augmentation=augmentation, **options)
    texts = [text.decode() for batch, _ in augmentation.seen for text in batch]
    assert sorted(texts[:16]) == sorted(few[0]) and "the bad film" not in texts
    assert len(texts) == 32
    assert len({number for _, number in augmentation.seen}) == 4
    again = Recorded()
    learner().fit(*few, augmentation=again, **options)
    assert sorted(map(str, again.seen)) == sorted(map(str, augmentation.seen))


@pytest.mark.parametrize("is_batched", [True, False])
def test_a_data_set_is_augmented_anew_in_every_epoch(learner, few, is_batched):
    labels = [0, 1] * 8
    dataset = tf.data.Dataset.from_tensor_slices((few[0], labels))
    dataset = dataset.batch(8) if is_batched else dataset
    augmentation = Recorded()
    learner().fit(dataset, augmentation=augmentation, epochs=2, batch_size=8, seed=1, verbose=0)
    assert sum(len(batch) for batch, _ in augmentation.seen) == 32
    assert len({number for _, number in augmentation.seen}) == 4
    noisy = augmented_dataset(dataset, OcrNoise(0.5), 8, False, seed=1)
    assert int(noisy.cardinality()) == 2
    epochs = [[x.tolist() for x, _ in noisy.as_numpy_iterator()] for _ in range(2)]
    assert epochs[0] != epochs[1]


def test_what_cannot_be_augmented_is_an_error(learner, few):
    classifier = learner()
    inputs = classifier.tokenizer(few[0])
    with pytest.raises(TypeError, match="augmentation changes raw texts, but x is .*dict"):
        classifier.fit(inputs, np.zeros(16), augmentation=OcrNoise())
    with pytest.raises(TypeError, match=r"must be of lingxi\.text\.augmentation"):
        classifier.fit(*few, augmentation=str.upper)
    dataset = tf.data.Dataset.from_tensor_slices((inputs, np.zeros(16))).batch(4)
    with pytest.raises(TypeError, match="augmentation changes texts, but the data set gives"):
        classifier.fit(dataset, augmentation=OcrNoise())
    with pytest.raises(ValueError, match="got 16 texts, but 3 labels"):
        classifier.fit(few[0], few[1][:3], augmentation=OcrNoise())
    with pytest.raises(ValueError, match="raw texts need their labels"):
        classifier.fit(few[0], augmentation=OcrNoise())


def test_a_file_trains_as_its_texts_do(learner, toy, table):
    classifier = learner()
    train, held_out = TableStream(table, buffer=16).split(0.3, seed=2)
    labels = {text: classifier.labels.index(label) for text, label in zip(*toy, strict=True)}
    seen = []
    for inputs, targets in classifier._batches(train, None, 8, "shuffled", seed=1)["x"]:
        seen += zip(classifier.tokenizer.decode(inputs["token_ids"]), targets.numpy(), strict=True)
    rows = [(row.text, labels[row.text]) for row in train.examples()]
    assert sorted(seen) == sorted(rows) and seen != rows

    options = {"batch_size": 16, "seed": 0, "verbose": 0}
    history = classifier.fit(train, validation_data=held_out, epochs=2, **options).history
    rows = list(held_out.examples())
    expected = classifier.evaluate([r.text for r in rows], [r.label for r in rows], verbose=0)
    np.testing.assert_allclose(classifier.evaluate(held_out, verbose=0), expected, rtol=1e-5)
    assert history["val_loss"][-1] == pytest.approx(expected[0], rel=1e-5)
    with pytest.raises(ValueError, match="has its own labels"):
        classifier.fit(train, ["positive"], verbose=0)
    with pytest.raises(ValueError, match="learns the labels of texts, but label_column is None"):
        classifier.fit(TableStream(table, label_column=None), verbose=0)


def test_a_file_of_pairs_with_several_labels_or_numbers(tiny_classifier, vocabulary, tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(
        "text,second,label,score\n" + "good,film,positive|negative,0.5\nbad,day,,2\n" * 4
    )
    options = {"pair_column": "second", "buffer": 3}
    task = tiny_classifier(multi_label=True)
    task.compile(AdamW(1e-3), run_eagerly=True)
    stream = TableStream(path, label_kind="names", **options)
    assert np.isfinite(task.fit(stream, augmentation=OcrNoise(), verbose=0).history["loss"]).all()
    regressor = TextRegressor(*encoder(vocabulary))
    regressor.compile(AdamW(1e-3), run_eagerly=True)
    stream = TableStream(path, label_column="score", label_kind="number", **options)
    assert np.isfinite(regressor.fit(stream, verbose=0).history["loss"]).all()


def test_a_training_goes_on_to_the_last_bit(tiny_classifier, table, tmp_path):
    def fit(directory, rate=0.3, callbacks=()):
        task = tiny_classifier(config={"dropout": 0.2})
        task.compile(AdamW(1e-3), run_eagerly=True)
        task.fit(
            TableStream(table, buffer=9),
            augmentation=RandomReplacement(rate),
            epochs=2,
            batch_size=16,
            seed=1,
            resume=Checkpoints(tmp_path / directory, every_steps=1),
            callbacks=list(callbacks),
            verbose=0,
        )
        return task

    whole = fit("whole")
    with pytest.raises(RuntimeError, match="the power went off"):
        fit("broken", callbacks=[Dies(6)])
    with pytest.raises(ValueError, match="augmentation"):
        fit("broken", rate=0.4)
    keras.utils.set_random_seed(99)
    assert_same(fit("broken"), whole)


# Balanced labels


def test_balanced_labels_count_alike(learner, monkeypatch, tmp_path):
    texts, labels = ["good"] * 3 + ["bad"] * 9, ["positive"] * 3 + ["negative"] * 9
    path = tmp_path / "a.csv"
    rows = (
        f"{text} {i},{label}\n" for i, (text, label) in enumerate(zip(texts, labels, strict=True))
    )
    path.write_text("text,label\n" + "".join(rows))
    given = []
    fit = keras.Model.fit
    monkeypatch.setattr(
        keras.Model, "fit", lambda *args, **kw: given.append(kw["class_weight"]) or fit(*args, **kw)
    )
    classifier = learner(labels=("negative", "positive", "neutral"))
    for data in ((texts, labels), (TableStream(path),), (texts, [1] * 3 + [0] * 9)):
        classifier.fit(*data, class_weight="balanced", verbose=0)
    assert given == [{0: 12 / 18, 1: 2.0, 2: 1.0}] * 3


def test_what_cannot_be_balanced_is_an_error(learner, few):
    dataset = tf.data.Dataset.from_tensor_slices((few[0], [0] * 16))
    with pytest.raises(ValueError, match="cannot in a data set"):
        learner().fit(dataset, class_weight="balanced")
    with pytest.raises(ValueError, match="or \"balanced\" .*got 'even'"):
        learner().fit(*few, class_weight="even")
    with pytest.raises(ValueError, match="of several labels"):
        learner(multi_label=True).fit(few[0], [["positive"]] * 16, class_weight="balanced")
