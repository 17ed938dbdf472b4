"""`fit(…, resume=…)` ends as if nothing had happened, whatever happened."""

import errno
import logging
import multiprocessing
import random
import resource
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from lingxi.tasks import text_data
from lingxi.tasks.language_data import blocks
from lingxi.tasks.masking import Masking, examples
from lingxi.tasks.pair_data import PairBatches
from lingxi.tasks.text_data import LengthBucketedBatches
from lingxi.text import ByteBpeTokenizer, WordPieceTokenizer
from lingxi.text.byte_bpe import byte_characters
from lingxi.training import AdamW, Checkpoints, fit_resumably, run_seed
from tests.tasks import killed_training

NEVER = 10**9


@pytest.fixture(scope="module")
def run_killed():
    """A function: a training in a process of its own; the exit code. See `killed_training`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.tasks.killed_training"])

    def run(kind, directory, result, event):
        process = context.Process(
            target=killed_training.main, args=(kind, directory, result, event), daemon=True
        )
        process.start()
        process.join(300)
        return process.exitcode

    return run


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "kills"), [("classifier", 3), ("masked", 2)])
def test_a_training_killed_anywhere_ends_as_one_that_was_not(run_killed, kind, kills, tmp_path):
    whole, broken = tmp_path / "whole.npz", tmp_path / "broken.npz"
    assert run_killed(kind, tmp_path / "whole", whole, NEVER) == 0
    generator = random.Random(kind)
    for _ in range(kills):
        event = generator.randrange(1, 70)
        assert run_killed(kind, tmp_path / "broken", broken, event) == -signal.SIGKILL
    assert run_killed(kind, tmp_path / "broken", broken, NEVER) == 0
    wanted, got = np.load(whole), np.load(broken)
    assert wanted.files == got.files
    assert len(wanted["history loss"]) == killed_training.EPOCHS
    for name in wanted.files:
        np.testing.assert_array_equal(got[name], wanted[name], err_msg=name)


# In this process


class Dies(keras.callbacks.Callback):
    """Raises at the end of a step, counted over all epochs, as an error of anybody would."""

    def __init__(self, step, error=RuntimeError):
        super().__init__()
        self.step = step
        self.error = error
        self.seen = 0

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        if self.seen == self.step:
            raise self.error("the power went off")


FEW = np.random.default_rng(0).normal(size=(16, 3)).astype("float32"), np.arange(16) % 2


@pytest.fixture
def make():
    """A function: a small model with dropout that trains without graphs."""

    def make(learning_rate=3e-3, optimizer=None, outputs=2, **options):
        keras.utils.set_random_seed(1)
        layers = [keras.Input((3,)), keras.layers.Dropout(0.5), keras.layers.Dense(outputs)]
        model = keras.Sequential(layers)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        options = {"run_eagerly": True, "metrics": ["accuracy"], **options}
        model.compile(optimizer or AdamW(learning_rate), loss, **options)
        model.optimizer.build(model.trainable_variables)
        model.evaluate(*FEW, verbose=0)  # makes the metrics
        return model

    return make


@pytest.fixture
def fit():
    """A function: train a model on 16 examples, 4 steps an epoch."""

    def fit(model, directory, died_at=None, y=FEW[1], batch_size=4, shuffle=True, **options):
        options = {"epochs": 2, "verbose": 0, "seed": 0, "shuffle": False, **options}
        callbacks = options.pop("callbacks", [])
        dataset = text_data.dataset_of_arrays(
            FEW[0], y, batch_size, shuffle=shuffle, seed=options["seed"]
        )
        options |= {"source": dataset.source, "checkpoints": Checkpoints.at(directory)}
        if died_at is None:
            return fit_resumably(model, model.fit, callbacks=callbacks, **options).history
        with pytest.raises(RuntimeError, match="the power went off"):
            fit_resumably(model, model.fit, callbacks=[*callbacks, Dies(died_at)], **options)
        return None

    return fit


def assert_same(found, wanted):
    """The same bits of weights and optimizer."""
    pairs = (
        zip(found.variables, wanted.variables, strict=True),
        zip(found.optimizer.variables, wanted.optimizer.variables, strict=True),
    )
    for name, these in zip(("model", "optimizer"), pairs, strict=True):
        for index, (got, value) in enumerate(these):
            np.testing.assert_array_equal(got, value, err_msg=f"{name} {index} {value.path}")


def test_the_same_seed_gives_the_same_training_with_checkpoints_or_without(
    tiny_classifier, few, tmp_path
):
    def trained(seed, resume=None):
        classifier = tiny_classifier(config={"dropout": 0.1})
        classifier.compile(AdamW(3e-3), run_eagerly=True)
        classifier.fit(*few, epochs=2, batch_size=8, seed=seed, verbose=0, resume=resume)
        return classifier

    plain, resumable, other = trained(0), trained(0, tmp_path), trained(1)
    assert_same(resumable, plain)
    assert not np.array_equal(other.get_weights()[0], plain.get_weights()[0])


@pytest.mark.parametrize("died_at", [1, 4, 6])
def test_callbacks_and_class_weights_are_part_of_it(make, fit, died_at, tmp_path):
    def options():
        return {
            "validation_data": FEW,
            "epochs": 4,
            "class_weight": {0: 2.0, 1: 1.0},
            "callbacks": [
                keras.callbacks.EarlyStopping(
                    "val_loss", mode="max", patience=2, restore_best_weights=True
                ),
                keras.callbacks.ReduceLROnPlateau("val_loss", mode="max", factor=0.5, patience=1),
            ],
        }

    whole, broken = make(), make()
    history = fit(whole, tmp_path / "whole", **options())
    assert len(history["loss"]) < 4, "it stopped early"
    assert len(set(history["learning_rate"])) > 1
    where = Checkpoints(tmp_path / "broken", every_steps=1)
    fit(broken, where, died_at=died_at, **options())
    broken = make()
    assert fit(broken, where, **options()) == history
    assert_same(broken, whole)


def test_callbacks_see_only_the_steps_that_are_left(make, fit, tmp_path):
    class Counts(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.steps, self.sum = [], 0.0

        def on_train_batch_end(self, batch, logs=None):
            self.steps.append(batch)
            self.sum += logs["loss"]

        def get_state(self):
            return {"sum": self.sum}

        def set_state(self, state):
            self.sum = state["sum"]

    whole, first, second = Counts(), Counts(), Counts()
    fit(make(), tmp_path / "whole", callbacks=[whole])
    where = Checkpoints(tmp_path / "broken", every_steps=3)
    fit(make(), where, callbacks=[first], died_at=6)
    fit(make(), where, callbacks=[second])
    assert whole.steps == [0, 1, 2, 3] * 2
    assert first.steps == [0, 1, 2, 3, 0, 1]
    assert second.steps == [0, 1, 2, 3]  # the last checkpoint was that of the end of the epoch
    assert second.sum == whole.sum


def test_several_steps_at_once(make, fit, tmp_path):
    def several():
        return make(steps_per_execution=2, run_eagerly=False)

    whole, broken = several(), several()
    history = fit(whole, tmp_path / "whole")
    where = Checkpoints(tmp_path / "broken", every_steps=2)
    fit(broken, where, died_at=2)  # calls of two steps
    broken = several()
    assert fit(broken, where) == history
    assert_same(broken, whole)


def test_a_finished_training_gives_its_history_at_once(make, fit, tmp_path):
    whole, again = make(), make()
    history = fit(whole, tmp_path)
    assert fit(again, tmp_path, callbacks=[Dies(1)]) == history
    assert_same(again, whole)
    more = make()
    longer = fit(more, tmp_path, epochs=3)
    assert longer["loss"][:2] == history["loss"]
    at_once = make()
    assert fit(at_once, tmp_path / "other", epochs=3) == longer
    assert_same(more, at_once)


def test_a_seed_that_nobody_gave_is_remembered(make, fit, tmp_path):
    seeds = [run_seed(tmp_path, None) for _ in range(2)]
    assert seeds[0] != seeds[1]
    np.random.seed(1)
    drawn = run_seed(tmp_path, None)
    np.random.seed(1)
    assert run_seed(tmp_path, None) == drawn
    fit(make(), tmp_path, seed=seeds[0])
    assert run_seed(tmp_path, None) == seeds[0]
    assert run_seed(tmp_path, 7) == 7
    assert run_seed(None, None) is None


def test_a_damaged_checkpoint_costs_its_steps_only(make, fit, tmp_path, caplog):
    whole, broken = make(), make()
    history = fit(whole, tmp_path / "whole")
    where = Checkpoints(tmp_path / "broken", every_steps=2)
    fit(make(), where, died_at=7)
    newest = where.newest().path
    (newest / "tensors.safetensors").write_bytes(b"what a disk made of it")
    with caplog.at_level(logging.WARNING):
        assert fit(broken, where) == history
    assert f"{newest} is damaged" in caplog.text
    assert_same(broken, whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 8}, "data.batches was 4, but is 2.*steps_per_epoch was 4, but is 2"),
        ({"y": 1 - FEW[1]}, "data.sha256 was"),
        ({"shuffle": False}, "data.sha256 was"),
        ({"seed": 1}, "seed was 0, but is 1"),
        ({"epochs": 1}, "epochs were 2, but are 1"),
        ({"class_weight": {0: 2.0}}, "class_weight"),
    ],
)
def test_other_arguments_are_an_error(make, fit, tmp_path, options, message):
    where = Checkpoints(tmp_path, every_steps=1)
    fit(make(), where, died_at=2)
    with pytest.raises(ValueError, match=f"those of another training: .*{message}"):
        fit(make(), where, **options)


def test_another_model_is_an_error(make, fit, tmp_path):
    fit(make(), tmp_path)
    with pytest.raises(ValueError, match=r"model\.layers was .*Pass what it was started with"):
        fit(make(outputs=3), tmp_path)


def test_another_optimizer_goes_on_with_a_warning(make, fit, tmp_path, caplog):
    where = Checkpoints(tmp_path, every_steps=1)
    fit(make(), where, died_at=2)
    slower = make(learning_rate=1e-3)
    with caplog.at_level(logging.WARNING):
        fit(slower, where)
    assert "another optimizer: config.learning_rate was" in caplog.text
    assert float(slower.optimizer.learning_rate) == pytest.approx(1e-3)
    with pytest.raises(ValueError, match="variables of the optimizer, but there are"):
        fit(make(optimizer=keras.optimizers.SGD(0.1)), where)


# Failures


class Breaks(keras.callbacks.Callback):
    """Sets a weight to NaN before a step."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_begin(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            weight = self.model.trainable_variables[0]
            weight.assign(weight + float("nan"))


def test_a_loss_that_is_no_number_ends_the_training(make, fit, tmp_path):
    where = Checkpoints(tmp_path, every_steps=1)
    message = "the loss is nan in epoch 2, step 3 of 4; training stopped. The checkpoint "
    message += ".*0001-00000002 is whole.*lower learning rate"
    with pytest.raises(FloatingPointError, match=message):
        fit(make(), where, callbacks=[Breaks(7)])
    classifier = make(learning_rate=1e-4)
    assert np.isfinite(fit(classifier, where)["loss"]).all()
    assert all(np.isfinite(weights).all() for weights in classifier.get_weights())


def test_weights_that_are_no_numbers_are_never_written(make, fit, tmp_path):
    classifier = make()
    classifier.trainable_variables[0].assign(classifier.trainable_variables[0] * float("inf"))
    with pytest.raises(FloatingPointError, match="not finite before the first step.*no checkpoint"):
        fit(classifier, tmp_path)


def test_a_full_disk_ends_the_training_and_leaves_what_was_there(make, fit, tmp_path):
    """A limit on the size of files stands in for the end of the disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Fills(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))

    message = r"training stopped after epoch 2: .*too large.*0001-00000000 is whole"
    try:
        with pytest.raises(OSError, match=message) as caught:
            fit(make(), tmp_path, callbacks=[Fills()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    whole, broken = make(), make()
    history = fit(whole, tmp_path / "whole")
    assert fit(broken, tmp_path) == history
    assert_same(broken, whole)


def test_a_directory_that_cannot_be_written_shows_before_the_first_step(make, fit, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="training stopped before the first step"):
        fit(make(), tmp_path / "file", callbacks=[Dies(1)])


@pytest.mark.parametrize("during", ["training", "validation"])
def test_control_c_writes_a_checkpoint(make, fit, during, tmp_path):
    class Interrupts(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if during == "training" and batch == 2:
                raise KeyboardInterrupt

        def on_test_batch_end(self, batch, logs=None):
            if during == "validation":
                raise KeyboardInterrupt

    whole, broken = make(), make()
    history = fit(whole, tmp_path / "whole", validation_data=FEW)
    with pytest.raises(KeyboardInterrupt):
        fit(make(), tmp_path / "broken", validation_data=FEW, callbacks=[Interrupts()])
    step = 3 if during == "training" else 4
    assert Checkpoints(tmp_path / "broken").newest().state["step"] == step
    assert fit(broken, tmp_path / "broken", validation_data=FEW) == history
    assert_same(broken, whole)


# Every kind of data begins at any batch


def ragged(lengths, first=5):
    return tf.ragged.constant([[first + i] * n for i, n in enumerate(lengths)], dtype=tf.int32)


def length_bucketed(vocabulary, order="shuffled"):
    inputs = {"token_ids": ragged(np.random.default_rng(0).integers(1, 9, 30))}
    return LengthBucketedBatches(inputs, np.arange(30, dtype="int32"), 4, 0, order, seed=1)


def pairs(vocabulary):
    lengths = np.random.default_rng(0).integers(1, 9, (2, 40))
    options = {"tokens_per_batch": 50, "order": "shuffled", "seed": 1}
    return PairBatches(*map(ragged, lengths), 1, (0, 0), **options)


def masked(vocabulary, shuffle=True):
    tokenizer = WordPieceTokenizer(vocabulary, max_length=16)
    documents = [f"the film was good\nthe river {i} was warm\nhow are you" for i in range(20)]
    return examples(documents, tokenizer, Masking(tokenizer), 16, 4, True, shuffle, 1, False).source


def text_blocks(vocabulary, repeat=False):
    tokenizer = ByteBpeTokenizer([*byte_characters(), "<|endoftext|>"], merges=[])
    return blocks(["the river is long"] * 20, tokenizer, 16, 3, True, repeat, seed=1).source


def of_dataset(dataset):
    return text_data.source_of_fit({"x": dataset}, False, None)


def users(vocabulary):
    return of_dataset(tf.data.Dataset.range(37).shuffle(20, seed=4).batch(4))


def arrays(vocabulary):
    data = {"x": {"token_ids": np.arange(40).reshape(20, 2)}, "y": np.arange(20), "batch_size": 3}
    return text_data.source_of_fit(data, True, 1)


@pytest.mark.parametrize(
    "make_source",
    [
        length_bucketed,
        lambda vocabulary: length_bucketed(vocabulary, "given"),
        pairs,
        masked,
        lambda vocabulary: masked(vocabulary, shuffle=False),
        text_blocks,
        lambda vocabulary: text_blocks(vocabulary, repeat=True),
        users,
        arrays,
    ],
    ids=[
        "bucketed",
        "given",
        "pairs",
        "masked",
        "masked given",
        "blocks",
        "blocks without end",
        "data set",
        "arrays",
    ],
)
def test_a_stream_begins_at_any_batch(make_source, vocabulary):
    count = make_source(vocabulary).num_batches or 8
    whole = drawn(make_source(vocabulary).stream(0), 3 * count)
    for first in (1, 2 * count + 3):
        got = drawn(make_source(vocabulary).stream(first), 3 * count - first)
        assert got == whole[first:], first


def drawn(dataset, count):
    return [
        [np.asarray(part).tolist() for part in tf.nest.flatten(batch)]
        for batch in dataset.take(count).as_numpy_iterator()
    ]


def test_a_stream_is_the_passes_of_its_data_set(vocabulary):
    for make_source in (length_bucketed, pairs):
        dataset = make_source(vocabulary).dataset()
        count = make_source(vocabulary).num_batches
        passes = [drawn(dataset, count) for _ in range(3)]
        assert passes[0] != passes[1]
        assert drawn(make_source(vocabulary).stream(), 3 * count) == [
            *passes[0],
            *passes[1],
            *passes[2],
        ]


def test_data_that_has_no_end_or_no_order_is_an_error(make, tmp_path):
    endless = of_dataset(tf.data.Dataset.from_tensors(FEW).repeat())
    model = make()
    with pytest.raises(ValueError, match="pass steps_per_epoch"):
        fit_resumably(model, model.fit, endless, Checkpoints(tmp_path), seed=0, epochs=1)

    class Sequence(keras.utils.PyDataset):
        def __len__(self):
            return 1

    with pytest.raises(TypeError, match=r"resume takes raw texts, tokenized arrays or a tf\.data"):
        of_dataset(Sequence())
