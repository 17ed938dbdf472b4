"""Several tasks learn together over one encoder, and each is the task that it was."""

import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from lingxi import tasks
from lingxi.tasks import MultiTask, QuestionAnswerer, TextClassifier, TextRegressor, TokenClassifier
from lingxi.tasks.multi_task import tasks_in_turn
from lingxi.text import WordPieceTokenizer
from lingxi.training import AdamW, FreeLb, GradualUnfreezing
from lingxi.zoo import Bert, BertConfig
from tests.tasks.questions import toy_questions
from tests.tasks.test_resume import Dies
from tests.tasks.test_text_regressor import data as numbers
from tests.tasks.test_token_classifier import examples as entities

MAKERS = {
    "sentiment": functools.partial(TextClassifier, labels=["negative", "positive"]),
    "names": functools.partial(TokenClassifier, labels=["PLACE", "FOOD"]),
    "similarity": TextRegressor,
    "questions": functools.partial(QuestionAnswerer, max_length=32, overlap=4, max_question=8),
}


def encoder(vocabulary, **config):
    keras.utils.set_random_seed(5)
    sizes = {
        "vocab_size": len(vocabulary),
        "hidden_dim": 32,
        "num_layers": 1,
        "num_heads": 2,
        "intermediate_dim": 64,
        "max_length": 48,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "initializer_range": 0.2,
    }
    return Bert(BertConfig(**sizes | config)), WordPieceTokenizer(vocabulary, max_length=48)


@pytest.fixture
def new_multi(vocabulary):
    """A function: a new `MultiTask` of the tasks of these names."""

    def make(*names, **config):
        shared = encoder(vocabulary, **config)
        return MultiTask({name: MAKERS[name](*shared) for name in names or MAKERS})

    return make


def learnable(toy, count=200):
    return {
        "sentiment": toy,
        "names": entities(count),
        "similarity": numbers(count),
        "questions": (list(zip(*toy_questions(count)[:2], strict=True)), toy_questions(count)[2]),
    }


@pytest.fixture(scope="module")
def trained(vocabulary, toy):
    shared = encoder(vocabulary)
    multi = MultiTask({name: make(*shared) for name, make in MAKERS.items()})
    calls = []
    for name, task in multi.tasks.items():
        task.call = _counted(task.call, name, calls)
    data = learnable(toy)
    multi.history_of_fit = multi.fit(
        data,
        validation_data={"names": entities(40, seed=1), "sentiment": toy},
        epochs=12,
        batch_size=16,
        sampling=2.0,
        loss_weights={"questions": 2.0},
        learning_rate=3e-3,
        seed=1,
        verbose=0,
    ).history
    multi.traced = list(calls)
    return multi


def _counted(call, name, calls):
    @functools.wraps(call)
    def counted(*args, **kwargs):
        calls.append(name)
        return call(*args, **kwargs)

    return counted


def test_all_heads_learn_together(trained, toy):
    history = trained.history_of_fit
    assert history["sentiment_accuracy"][-1] > 0.95
    assert history["names_f1"][-1] > 0.7
    assert history["similarity_pearson"][-1] > 0.9
    assert history["questions_loss"][-1] < 0.5 * history["questions_loss"][0]
    assert history["val_names_f1"][-1] > 0.7
    assert history["val_sentiment_accuracy"][-1] > 0.95
    assert not any(key.startswith("val_questions") for key in history)  # it was given none


def test_each_head_is_its_task(trained, toy):
    assert [a.label for a in trained["sentiment"].classify(toy[0])] == toy[1]
    (found,) = trained["names"].tag(["the old river is good"])
    assert [(entity.label, entity.text) for entity in found] == [("PLACE", "old river")]
    rates = trained["similarity"].rate(["good great fine good", "bad dull poor bad"])
    assert rates[0] > 0.5 > -0.5 > rates[1]
    assert trained["questions"].answer("how was it", "the river was lovely and of").text == "lovely"
    with pytest.raises(KeyError, match="no task 'spam'; the tasks are .'sentiment'"):
        trained["spam"]


def test_a_step_is_traced_once_for_each_task_of_the_data(trained):
    # The training step has four tasks, that of validation two.
    assert sorted(trained.traced) == sorted([*MAKERS, "names", "sentiment"])


def test_evaluate_gives_what_each_task_gives(trained, toy):
    data = learnable(toy, 30)
    found = trained.evaluate(data, verbose=0)
    assert found["questions_f1"] == trained["questions"].evaluate(*data["questions"])["f1"]
    for name in ("sentiment", "names", "similarity"):
        alone = trained[name].evaluate(*data[name], return_dict=True, verbose=0)
        for key, value in alone.items():
            assert found[f"{name}_{key}"] == pytest.approx(value)
    only = trained.evaluate({"sentiment": toy}, batch_size={"sentiment": 8}, verbose=0)
    assert set(only) == {"sentiment_loss", "sentiment_accuracy"}


def test_validation_in_fit_is_that_of_evaluate(trained, toy):
    history = trained.history_of_fit
    names = trained.evaluate({"names": entities(40, seed=1)}, verbose=0)
    assert history["val_names_f1"][-1] == pytest.approx(names["names_f1"])
    sentiment = trained.evaluate({"sentiment": toy}, verbose=0)
    assert history["val_sentiment_loss"][-1] == pytest.approx(sentiment["sentiment_loss"], abs=1e-5)


def test_presets_and_keras_files_keep_everything(trained, toy, tmp_path):
    trained.save_preset(tmp_path / "preset")
    trained.save(tmp_path / "model.keras")
    texts = toy[0][:4]
    for again in (
        MultiTask.from_preset(str(tmp_path / "preset")),
        tasks.load(tmp_path / "preset"),
        keras.saving.load_model(tmp_path / "model.keras"),
    ):
        assert list(again.tasks) == list(trained.tasks)
        assert len({id(task.backbone) for task in again.tasks.values()}) == 1
        inputs = {**trained.tokenizer(texts)}
        for name, outputs in again(inputs).items():
            np.testing.assert_allclose(outputs, trained[name](inputs), atol=1e-5)
    names = TokenClassifier.from_preset(str(tmp_path / "preset" / "names"))
    assert names.tag("the old river") == trained["names"].tag("the old river")
    bare = Bert.from_preset(str(tmp_path / "preset"))
    np.testing.assert_array_equal(bare.pooler.weights[0], trained.backbone.pooler.weights[0])


def test_a_head_that_was_trained_apart_is_refused(new_multi, tmp_path):
    multi = new_multi("sentiment", "names")
    multi.save_preset(tmp_path / "preset")
    other = new_multi("names", initializer_range=0.1)["names"]
    other.save_preset(tmp_path / "preset" / "names")
    with pytest.raises(ValueError, match="names has another encoder than .*trained apart"):
        MultiTask.from_preset(str(tmp_path / "preset"))


def test_new_heads_are_put_on_a_saved_encoder(new_multi, tmp_path):
    multi = new_multi("names")
    multi.save_preset(tmp_path / "preset")
    again = MultiTask.from_preset(
        str(tmp_path / "preset"), {"names": MAKERS["names"], "rate": TextRegressor}
    )
    inputs = multi.tokenizer(["a good film"])
    found, wanted = (m.backbone(inputs)["sequence_output"] for m in (again, multi))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    with pytest.raises(ValueError, match="no trained MultiTask, so it needs tasks="):
        MultiTask.from_preset(str(tmp_path / "preset" / "names"))


def test_a_directory_that_is_no_model_is_kept(new_multi, tmp_path):
    (tmp_path / "letter.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="so it is no model to replace"):
        new_multi("names").save_preset(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_what_is_compiled_is_kept_in_keras_files(new_multi, few, tmp_path):
    multi = new_multi("sentiment", "similarity")
    multi["sentiment"].compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseTopKCategoricalAccuracy(1, name="first")],
    )
    multi.compile(AdamW(1e-3), run_eagerly=True)
    data = {"sentiment": few, "similarity": numbers(16)}
    history = multi.fit(data, verbose=0).history
    assert set(history) == {
        "loss",
        "sentiment_loss",
        "sentiment_first",
        "similarity_loss",
        "similarity_mae",
        "similarity_pearson",
    }
    multi.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert int(again.optimizer.iterations) == int(multi.optimizer.iterations) == 2
    again.compile(again.optimizer, run_eagerly=True)
    assert "sentiment_first" in again.fit(data, verbose=0).history


def test_a_task_learns_as_it_does_alone(new_multi, few):
    """The same seed, data and optimizer: with one task nothing is new."""
    losses = []
    for learner in (new_multi("sentiment"), new_multi("sentiment")["sentiment"]):
        learner.compile(AdamW(1e-3), run_eagerly=True)
        data = ({"sentiment": few},) if isinstance(learner, MultiTask) else few
        losses.append(learner.fit(*data, batch_size=4, epochs=2, seed=3, verbose=0).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_loss_weights_scale_what_is_learnt(new_multi, few):
    multi = new_multi("sentiment", "similarity")
    multi.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    head = np.array(multi["similarity"].head.kernel)
    weights = {"similarity": 0.0, "sentiment": 3.0}
    data = {"sentiment": few, "similarity": numbers(16)}
    history = multi.fit(data, loss_weights=weights, seed=1, verbose=0).history
    np.testing.assert_array_equal(multi["similarity"].head.kernel, head)
    assert history["loss"][0] == pytest.approx(3.0 * history["sentiment_loss"][0] / 2, rel=1e-5)


def test_a_frozen_encoder_stays_as_it_is(new_multi, few):
    multi = new_multi("sentiment", "names")
    multi.backbone.trainable = False
    again = MultiTask(dict(multi.tasks))
    again.compile(AdamW(1e-2), run_eagerly=True)
    before = [np.array(weight) for weight in again.backbone.weights]
    heads = [np.array(task.head.kernel) for task in again.tasks.values()]
    again.fit({"sentiment": few, "names": entities(8)}, verbose=0)
    for weight, old in zip(again.backbone.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)
    for task, old in zip(again.tasks.values(), heads, strict=True):
        assert np.abs(np.array(task.head.kernel) - old).max() > 0


def test_the_pooler_learns_only_if_a_task_reads_it(new_multi):
    assert new_multi("names", "sentiment").backbone.pooler.trainable
    assert not new_multi("names", "questions").backbone.pooler.trainable


def test_layer_decay_and_gradual_unfreezing(new_multi):
    multi = new_multi("sentiment", "similarity")
    lowest = np.array(multi.backbone.trainable_variables[0])
    data = {"sentiment": (["good"], ["positive"]), "similarity": (["good"], [1.0])}
    multi.fit(data, layer_decay=0.5, callbacks=[GradualUnfreezing()], verbose=0)
    np.testing.assert_array_equal(multi.backbone.trainable_variables[0], lowest)
    rates = {v.path: multi.optimizer.factor(v) for v in multi.trainable_variables}
    assert {rate for path, rate in rates.items() if "block_0/" in path} == {0.5}
    assert {rate for path, rate in rates.items() if path.startswith("head/")} == {1.0}


def test_data_sets_and_files_and_weights(new_multi, few, tmp_path):
    path = tmp_path / "train.conll"
    words, tags = entities(8)
    path.write_text(
        "\n\n".join(
            "\n".join(f"{word}\t{tag}" for word, tag in zip(*sentence, strict=True))
            for sentence in zip(words, tags, strict=True)
        )
    )
    dataset = tf.data.Dataset.from_tensor_slices(few).batch(4)
    multi = new_multi("sentiment", "names", "similarity")
    multi.compile(AdamW(1e-3), run_eagerly=True)
    data = {
        "sentiment": dataset,
        "names": str(path),
        "similarity": (*numbers(4), [1.0, 0.0, 2.0, 1.0]),
    }
    history = multi.fit(data, batch_size={"names": 4}, verbose=0).history
    assert np.isfinite(history["loss"][0])
    assert int(multi.optimizer.iterations) == 4 + 2 + 1


def test_an_epoch_has_as_many_steps_as_it_is_told(new_multi, few):
    multi = new_multi("sentiment", "names")
    multi.compile(AdamW(1e-3), run_eagerly=True)
    data = {"sentiment": few, "names": entities(8)}
    multi.fit(data, steps_per_epoch=3, epochs=2, sampling=float("inf"), batch_size=4, verbose=0)
    assert int(multi.optimizer.iterations) == 6


def test_runs_with_one_seed_are_equal(new_multi, few):
    def weights(seed):
        multi = new_multi("sentiment", "names")
        multi.compile(AdamW(1e-2), run_eagerly=True)
        data = {"sentiment": (few[0][:8], few[1][:8]), "names": entities(4)}
        multi.fit(data, batch_size=4, seed=seed, verbose=0)
        return np.array(multi.backbone.weights[0])

    first = weights(1)
    np.testing.assert_allclose(weights(1), first, atol=1e-6)
    assert np.abs(weights(2) - first).max() > 1e-5


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [(1.0, [100, 10, 1]), (2.0, [78, 25, 8]), (float("inf"), [37, 37, 37])],
)
def test_temperature_flattens_the_shares(temperature, expected):
    order = tasks_in_turn([100, 10, 1], 111, 3, temperature, seed=0)
    for epoch in np.split(order, 3):
        np.testing.assert_array_equal(np.bincount(epoch, minlength=3), expected)
    first, second, _ = np.split(order, 3)
    assert (first != second).any()
    np.testing.assert_array_equal(order, tasks_in_turn([100, 10, 1], 111, 3, temperature, seed=0))


def test_an_encoder_of_its_own_is_refused(vocabulary):
    one, other = encoder(vocabulary), encoder(vocabulary)
    with pytest.raises(ValueError, match="'a' and 'b' do not share one backbone: make the second"):
        MultiTask({"a": TextRegressor(*one), "b": TextRegressor(*other)})
    with pytest.raises(ValueError, match="do not share one tokenizer"):
        MultiTask({"a": TextRegressor(*one), "b": TextRegressor(one[0], other[1])})


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, ValueError, "needs tasks by name"),
        ({"a b": TextRegressor}, ValueError, "must be a Python identifier.*got 'a b'"),
        ({"a": lambda *_: keras.Sequential()}, TypeError, "'a' is a Sequential; a MultiTask takes"),
    ],
)
def test_bad_tasks_are_refused(vocabulary, given, error, message):
    shared = encoder(vocabulary)
    with pytest.raises(error, match=message):
        MultiTask({name: make(*shared) for name, make in given.items()})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"x": {"spam": ([], [])}}, ValueError, "data of no task: .'spam'.; the tasks are"),
        ({"x": {}}, TypeError, "takes {name: data} of its tasks"),
        ({"x": (["good"], ["positive"])}, TypeError, "takes {name: data} of its tasks"),
        ({"sampling": 0}, ValueError, "a temperature above 0, got 0"),
        ({"sampling": "even"}, ValueError, "sampling must be .*got 'even'"),
        ({"loss_weights": {"spam": 1.0}}, ValueError, "loss_weights of no task"),
        ({"loss_weights": {"sentiment": -1.0}}, ValueError, "'sentiment' must be 0 or more"),
        ({"x": {"sentiment": (["good"], ["lovely"])}}, ValueError, "task 'sentiment'"),
        ({"x": {"sentiment": (["good"], [])}}, ValueError, "1 texts, but 0 labels"),
    ],
)
def test_bad_arguments_are_named(new_multi, options, error, message):
    options = {"x": {"sentiment": (["good"], ["positive"])}, "verbose": 0, **options}
    with pytest.raises(error, match=message):
        new_multi("sentiment", "names").fit(**options)


def test_losses_belong_to_tasks(new_multi):
    with pytest.raises(ValueError, match="each task has its own"):
        new_multi("sentiment").compile(loss="mse")


def test_a_data_set_of_unknown_size_is_refused(new_multi, few):
    dataset = tf.data.Dataset.from_tensor_slices(few).filter(lambda *_: True).batch(4)
    with pytest.raises(ValueError, match="nobody knows how many batches .* 'sentiment'"):
        new_multi("sentiment").fit({"sentiment": dataset}, verbose=0)


def test_a_saved_directory_says_what_it_is(new_multi, tmp_path):
    new_multi("sentiment", "names").save_preset(tmp_path / "preset")
    config = json.loads((tmp_path / "preset" / "config.json").read_text())
    assert config["lingxi"] == {"task": "MultiTask", "tasks": ["sentiment", "names"]}
    assert {path.name for path in (tmp_path / "preset" / "names").iterdir()} >= {
        "config.json",
        "model.safetensors",
        "vocab.txt",
    }


def test_a_training_that_died_goes_on_with_the_tasks_whose_turn_it_is(new_multi, toy, tmp_path):
    data = learnable(toy, count=40)
    data = {name: data[name] for name in ("sentiment", "names")}
    data["sentiment"] = tuple(column[:64] for column in toy)

    def fit(directory, *callbacks):
        multi = new_multi(*data, dropout=0.1)
        multi["names"].compile(technique=FreeLb(epsilon=0.6, step_size=0.2, steps=2, seed=1))
        options = {"epochs": 3, "batch_size": 8, "sampling": 2.0, "verbose": 0}
        history = multi.fit(data, resume=directory, callbacks=callbacks, **options)
        return multi, history.history

    whole, wanted = fit(tmp_path / "whole")
    steps = int(whole.optimizer.iterations) // 3
    with pytest.raises(RuntimeError, match="the power went off"):
        fit(tmp_path / "broken", Dies(steps + 3))
    multi, history = fit(tmp_path / "broken")
    assert history == wanted
    for got, value in zip(multi.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(got, value, err_msg=value.path)


def test_another_training_does_not_go_on(new_multi, toy, tmp_path):
    texts, labels = (column[:16] for column in toy)
    options = {"batch_size": 8, "verbose": 0, "resume": tmp_path}
    data = {"sentiment": (texts, labels)}
    new_multi("sentiment").fit(data, **options)
    with pytest.raises(ValueError, match="those of another training: .*data"):
        new_multi("sentiment").fit({"sentiment": (texts[::-1], labels)}, **options)
    with pytest.raises(ValueError, match="those of another training: .*sampling"):
        new_multi("sentiment").fit(data, sampling=2.0, **options)
