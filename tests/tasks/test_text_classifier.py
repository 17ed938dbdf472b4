"""TextClassifier: what a user trains and calls, on every kind of input, and every wrong one."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from lingxi.tasks import Classification, TextClassifier
from lingxi.text import WordPieceTokenizer
from lingxi.training import AdamW, WarmupLinearDecay
from lingxi.zoo import Bert, BertConfig, CheckpointError, checkpoint

TEXTS = ["a good film", "bad", "", "the cold river was very very dull and old", "a good film"]


def labels_of(answers):
    return [answer.label for answer in answers]


# Learning


def test_it_learns_a_separable_task(learner, toy):
    classifier = learner(eager=False)
    history = classifier.fit(*toy, validation_data=toy, epochs=6, batch_size=8, verbose=0, seed=0)
    assert history.history["val_accuracy"][-1] == 1.0
    assert classifier.evaluate(*toy, verbose=0)[1] == 1.0
    assert labels_of(classifier.classify(toy[0])) == toy[1]
    answer = classifier.classify(["the lovely film"])[0]
    assert answer.label == "positive" and answer.score > 0.9


def test_it_learns_from_pairs(learner, toy):
    texts, labels = toy
    pairs = [("the film", text) for text in texts]
    classifier = learner(eager=False)
    classifier.fit(pairs, labels, epochs=6, batch_size=8, verbose=0, seed=0)
    assert labels_of(classifier.classify(pairs)) == labels


def test_it_learns_several_classes(learner):
    labels = ["food", "time", "place"]
    words = {"food": ["rice", "tea"], "time": ["day", "night"], "place": ["river", "stream"]}
    data = [(f"the {w} is {a}", name) for name in labels for w in words[name] for a in "abcdef"]
    texts, names = zip(*data, strict=True)
    classifier = learner(eager=False, labels=labels)
    classifier.fit(list(texts), list(names), epochs=10, batch_size=6, verbose=0, seed=0)
    answers = classifier.classify(list(texts))
    assert labels_of(answers) == list(names)
    assert list(answers[0].probabilities) == labels


def test_it_learns_several_labels_at_once(learner):
    texts, sets = [], []
    for a in ("good", "bad"):
        for b in ("rice", "river"):
            for filler in ("the", "a", "this", "that"):
                texts.append(f"{filler} {a} {b}")
                sets.append([n for n, w in (("nice", "good"), ("food", "rice")) if w in (a, b)])
    classifier = learner(eager=False, labels=["nice", "food"], multi_label=True)
    classifier.fit(texts, sets, epochs=15, batch_size=4, verbose=0, seed=0)
    answers = classifier.classify(texts)
    assert [list(answer.labels) for answer in answers] == sets
    assert classifier.evaluate(texts, sets, verbose=0)[1] == 1.0


def test_a_seed_makes_the_order_of_training_the_same(learner, few):
    weights = []
    for seed in (1, 1, 2):
        classifier = learner()
        classifier.fit(*few, batch_size=4, verbose=0, seed=seed)
        weights.append(classifier.head.get_weights()[0])
    np.testing.assert_array_equal(weights[0], weights[1])
    assert np.abs(weights[0] - weights[2]).max() > 1e-5


# Every kind of input


TOY_SET = tf.data.Dataset.from_tensor_slices
KINDS = {
    "list": lambda x, y: (x, y),
    "object array": lambda x, y: (np.array(x, object), np.array(y, object)),
    "array of str": lambda x, y: (np.array(x), np.array(y)),
    "bytes": lambda x, y: ([text.encode() for text in x], [label.encode() for label in y]),
    "string tensor": lambda x, y: (tf.constant(x), y),
    "ids": lambda x, y: (x, [["negative", "positive"].index(label) for label in y]),
    "data set": lambda x, y: (TOY_SET((x, y)), None),
    "data set of ids": lambda x, y: (TOY_SET((x, [int(v == "positive") for v in y])), None),
    "batched data set": lambda x, y: (TOY_SET((x, y)).batch(8), None),
    "weighted data set": lambda x, y: (TOY_SET((x, y, tf.ones(len(x)))).batch(8), None),
}


@pytest.fixture(scope="module")
def outcome(tiny_classifier, few):
    """A function: the history and the evaluation of a short training on these inputs."""

    def train(x, y):
        classifier = tiny_classifier()
        classifier.compile(AdamW(3e-3), run_eagerly=True)
        history = classifier.fit(
            x, y, validation_data=x if y is None else (x, y), shuffle=False, batch_size=8, verbose=0
        ).history
        return history, classifier.evaluate(x, y, verbose=0)

    return train


@pytest.fixture(scope="module")
def reference(outcome, few):
    return outcome(*few)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_fit_and_evaluate_take_any_kind_of_texts(few, kind, outcome, reference):
    history, evaluation = outcome(*kind(*few))
    wanted, wanted_evaluation = reference
    assert set(history) == set(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(evaluation, wanted_evaluation, rtol=1e-3)


PAIRS = {
    "list of tuples": lambda a, b: list(zip(a, b, strict=True)),
    "list of lists": lambda a, b: [list(pair) for pair in zip(a, b, strict=True)],
    "tuple of lists": lambda a, b: (a, b),
    "array": lambda a, b: np.array([a, b]).T,
}


@pytest.mark.parametrize("kind", PAIRS.values(), ids=PAIRS.keys())
def test_every_verb_takes_any_kind_of_pairs(learner, few, kind):
    texts, labels = few
    second = [f"this is {text}" for text in texts]
    classifier, pairs = learner(), kind(texts, second)
    wanted = classifier.predict(list(zip(texts, second, strict=True)), verbose=0)
    assert np.abs(wanted - classifier.predict(texts, verbose=0)).max() > 1e-3
    np.testing.assert_array_equal(classifier.predict(pairs, verbose=0), wanted)
    assert [answer.score for answer in classifier.classify(pairs)] == [
        answer.score for answer in classifier.classify(list(zip(texts, second, strict=True)))
    ]
    loss, _ = classifier.evaluate(pairs, labels, verbose=0)
    history = classifier.fit(pairs, labels, validation_data=(pairs, labels), verbose=0)
    assert history.history["val_loss"][0] < loss


def test_fit_takes_a_data_set_of_pairs(learner, few):
    texts, labels = few
    data = TOY_SET(((texts, texts[::-1]), labels))
    classifier = learner()
    pairs = list(zip(texts, texts[::-1], strict=True))
    loss = classifier.evaluate(pairs, labels, verbose=0)[0]
    assert classifier.evaluate(data, verbose=0)[0] == pytest.approx(loss, rel=1e-4)
    assert classifier.fit(data, verbose=0).history["loss"][0] > 0


def test_every_verb_takes_tokenized_inputs(learner, few):
    texts, labels = few
    classifier = learner()
    inputs = classifier.tokenizer(texts)
    inputs = {name: value.numpy() for name, value in inputs.items()}
    ids = np.array([int(label == "positive") for label in labels])
    np.testing.assert_allclose(
        classifier.predict(inputs, verbose=0), classifier.predict(texts, verbose=0), atol=1e-5
    )
    wanted = classifier.evaluate(texts, labels, verbose=0)
    np.testing.assert_allclose(classifier.evaluate(inputs, ids, verbose=0), wanted, rtol=1e-4)
    data = TOY_SET((inputs, ids)).batch(16)
    np.testing.assert_allclose(classifier.evaluate(data, verbose=0), wanted, rtol=1e-4)
    history = classifier.fit(
        inputs, ids, validation_data=(inputs, ids), epochs=2, batch_size=16, verbose=0
    )
    assert history.history["val_loss"][-1] < wanted[0]
    losses = classifier.fit(data, validation_data=data, epochs=2, verbose=0).history["val_loss"]
    assert losses[-1] < history.history["val_loss"][-1]


@pytest.mark.parametrize("batched", [True, False], ids=["batched", "single"])
def test_predict_takes_a_data_set_of_texts(tiny_classifier, few, batched):
    classifier = tiny_classifier()
    data = TOY_SET(few[0])
    wanted = classifier.predict(few[0], verbose=0)
    got = classifier.predict(data.batch(8) if batched else data, verbose=0)
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_multi_labels_as_names_ids_or_indicators(learner):
    texts = ["a good film", "bad", "the river"]
    losses = []
    for y in (
        [["x", "z"], [], ["y"]],
        [[0, 2], [], [1]],
        np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]]),
        np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]], "float32"),
    ):
        classifier = learner(labels=["x", "y", "z"], multi_label=True)
        losses.append(classifier.evaluate(texts, y, verbose=0)[0])
    np.testing.assert_allclose(losses, losses[0], rtol=1e-6)
    logits = classifier.predict(texts, verbose=0)
    wanted = tf.nn.sigmoid_cross_entropy_with_logits(y, logits)
    assert losses[0] == pytest.approx(float(tf.reduce_mean(wanted)), rel=1e-5)


# The verb


def test_an_answer_is_the_softmax_of_the_logits(tiny_classifier):
    classifier = tiny_classifier(labels=["x", "y", "z"])
    logits = classifier.predict(TEXTS, verbose=0)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for answer, row in zip(classifier.classify(TEXTS), probabilities, strict=True):
        assert isinstance(answer, Classification)
        np.testing.assert_allclose(list(answer.probabilities.values()), row, rtol=1e-5)
        assert answer.label == ["x", "y", "z"][row.argmax()]
        assert (
            answer.score == answer.probabilities[answer.label] == max(answer.probabilities.values())
        )
        assert answer.labels == ()
        assert type(answer.score) is float
        json.dumps(dataclasses.asdict(answer))


def test_an_answer_with_several_labels_is_the_sigmoid_of_the_logits(tiny_classifier):
    classifier = tiny_classifier(labels=["x", "y", "z"], multi_label=True)
    logits = classifier.predict(TEXTS, verbose=0)
    seen = set()
    for answer, row in zip(classifier.classify(TEXTS), 1 / (1 + np.exp(-logits)), strict=True):
        np.testing.assert_allclose(list(answer.probabilities.values()), row, rtol=1e-5)
        assert answer.labels == tuple(n for n, p in zip("xyz", row, strict=True) if p >= 0.5)
        seen.update(answer.labels)
    assert seen


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_answers_keep_the_order_of_the_texts(tiny_classifier, few, batch_size):
    classifier = tiny_classifier()
    alone = [classifier.classify([text])[0].score for text in few[0]]
    together = [answer.score for answer in classifier.classify(few[0], batch_size=batch_size)]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert len(set(together)) > 5
    logits = classifier.predict(few[0], batch_size=batch_size, verbose=0)
    wanted = np.concatenate([classifier.predict([text], verbose=0) for text in few[0]])
    np.testing.assert_allclose(logits, wanted, atol=1e-5)


def test_no_texts_have_no_answers(tiny_classifier):
    classifier = tiny_classifier()
    assert classifier.classify([]) == []
    assert classifier.classify(np.array([], object)) == []
    assert classifier.predict([], verbose=0).shape == (0, 2)


def test_an_empty_text_has_an_answer(tiny_classifier):
    (answer,) = tiny_classifier().classify([""])
    assert sum(answer.probabilities.values()) == pytest.approx(1)


def test_a_long_text_is_cut(tiny_classifier):
    classifier = tiny_classifier(max_length=8)
    cut, full = classifier.classify(["the river " * 3, "the river " * 5000])
    assert cut.score == pytest.approx(full.score)


def test_different_lengths_and_sizes_are_one_graph(tiny_classifier, few):
    classifier = tiny_classifier()
    classifier.classify(["a"])
    classifier.predict(["a"], verbose=0)
    for texts in (few[0], few[0][:3], ["the river " * 30], []):
        classifier.classify(texts, batch_size=5)
        classifier.predict(texts, batch_size=7, verbose=0)
    assert classifier._answers_graph.experimental_get_tracing_count() == 1
    assert classifier._logits_graph.experimental_get_tracing_count() == 1


def test_training_changes_the_answers_of_the_same_graph(learner, few):
    classifier = learner()
    before = classifier.classify(TEXTS)
    classifier.fit(*few, verbose=0)
    after = classifier.classify(TEXTS)
    assert max(abs(a.score - b.score) for a, b in zip(before, after, strict=True)) > 1e-3


@pytest.mark.parametrize("verbose", [True, False])
def test_progress_is_shown_when_asked_for(tiny_classifier, capsys, verbose):
    tiny_classifier().classify(TEXTS, verbose=verbose)
    assert ("classify" in capsys.readouterr().err) == verbose


def test_the_serving_function_gives_the_verbs_answers(tiny_classifier):
    classifier = tiny_classifier()
    served = tf.function(classifier.serving_function)(tf.constant(TEXTS))
    for row, answer in enumerate(classifier.classify(TEXTS)):
        assert served["label"][row].numpy().decode() == answer.label
        assert float(served["score"][row]) == pytest.approx(answer.score, abs=1e-5)


# Training settings


def test_class_weights_by_name_or_id_scale_the_loss(learner, few):
    losses = []
    for weight in (
        None,
        {"negative": 3.0, "positive": 3.0},
        {0: 3.0, 1: 3.0},
        {"negative": 0.0, "positive": 0.0},
    ):
        classifier = learner()
        history = classifier.fit(*few, class_weight=weight, batch_size=16, shuffle=False, verbose=0)
        losses.append(history.history["loss"][0])
    assert losses[1] == pytest.approx(3 * losses[0], rel=1e-4)
    assert losses[2] == pytest.approx(3 * losses[0], rel=1e-4)
    assert losses[3] == 0


def test_sample_weights_stay_with_their_texts(learner, few):
    texts, labels = few
    weights = np.array([float(label == "positive") for label in labels])
    flipped = ["negative"] * len(labels)  # wrong where the weight is 1, right where it is 0
    classifier = learner()
    classifier.fit(texts, flipped, sample_weight=weights, epochs=8, batch_size=8, verbose=0)
    loss = classifier.evaluate(texts, flipped, sample_weight=weights, verbose=0)[0]
    assert loss < 0.1
    alone = [text for text, weight in zip(texts, weights, strict=True) if weight]
    wanted = classifier.evaluate(alone, ["negative"] * len(alone), verbose=0)[0]
    assert loss == pytest.approx(wanted * weights.mean(), rel=0.01)
    history = classifier.fit(texts, labels, validation_data=(texts, flipped, weights), verbose=0)
    assert history.history["val_loss"][0] < 2


def test_the_default_settings(tiny_classifier, few):
    classifier = tiny_classifier()
    classifier.fit(*few, epochs=5, batch_size=4, verbose=0)
    optimizer = classifier.optimizer
    assert isinstance(optimizer, AdamW)
    schedule = optimizer._learning_rate
    assert isinstance(schedule, WarmupLinearDecay)
    assert schedule.get_config() == {"peak": 5e-5, "warmup_steps": 2, "total_steps": 20}
    assert optimizer.global_clipnorm == 1.0
    decays = {w.path: optimizer._use_weight_decay(w) for w in classifier.trainable_weights}
    assert not any(d for path, d in decays.items() if path.endswith(("bias", "gamma", "beta")))
    assert all(d for path, d in decays.items() if path.endswith(("kernel", "embeddings")))


def test_default_settings_are_made_anew_for_every_fit(tiny_classifier, few):
    classifier = tiny_classifier()
    classifier.fit(*few, epochs=2, batch_size=4, verbose=0)
    first = classifier.optimizer
    classifier.fit(*few, epochs=1, batch_size=8, verbose=0)
    assert classifier.optimizer is not first
    assert classifier.optimizer._learning_rate.total_steps == 2
    assert int(classifier.optimizer.iterations) == 2


@pytest.mark.parametrize("kind", ["data set", "batched data set"])
def test_the_steps_of_a_data_set_are_counted(tiny_classifier, few, kind):
    classifier = tiny_classifier()
    classifier.fit(KINDS[kind](*few)[0], epochs=3, batch_size=8, verbose=0)
    assert classifier.optimizer._learning_rate.total_steps == 6


def test_a_data_set_of_unknown_size_trains_at_a_constant_rate(tiny_classifier, few):
    data = TOY_SET(few).filter(lambda text, label: True)
    classifier = tiny_classifier()
    classifier.fit(data, verbose=0)
    assert float(classifier.optimizer.learning_rate) == pytest.approx(5e-5)


def test_the_users_own_settings_are_kept(tiny_classifier, few):
    classifier = tiny_classifier()
    optimizer = keras.optimizers.SGD(0.5)
    metric = keras.metrics.SparseTopKCategoricalAccuracy(2, name="top")
    classifier.compile(optimizer, metrics=[metric], jit_compile=True)
    assert classifier.jit_compile
    classifier.jit_compile = False
    history = classifier.fit(*few, validation_data=few, epochs=2, verbose=0)
    assert classifier.optimizer is optimizer
    assert int(optimizer.iterations) == 2
    assert set(history.history) == {"loss", "top", "val_loss", "val_top"}
    assert history.history["top"] == [1.0, 1.0]
    classifier.fit(*few, verbose=0)
    assert int(optimizer.iterations) == 3


def test_the_users_own_loss_is_kept(tiny_classifier, few):
    classifier = tiny_classifier()
    classifier.compile(loss=lambda y, logits: 0.0 * keras.ops.sum(logits, -1) + 7.0)
    assert classifier.evaluate(*few, verbose=0)[0] == pytest.approx(7.0)


def test_frozen_weights_stay(learner, few):
    classifier = learner()
    classifier.backbone.trainable = False
    before = classifier.backbone.get_weights()
    head = classifier.head.get_weights()[0]
    classifier.fit(*few, verbose=0)
    for old, new in zip(before, classifier.backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert np.abs(head - classifier.head.get_weights()[0]).max() > 1e-4


def test_callbacks_stop_and_keep_the_best(learner, few, tmp_path):
    classifier = learner()
    best = tmp_path / "best.keras"
    callbacks = [
        keras.callbacks.EarlyStopping("val_loss", patience=1, min_delta=100.0),
        keras.callbacks.ModelCheckpoint(best, monitor="val_loss", save_best_only=True),
    ]
    history = classifier.fit(
        *few, validation_data=few, epochs=9, callbacks=callbacks, batch_size=8, verbose=0
    )
    assert len(history.epoch) == 2
    loaded = keras.saving.load_model(best)
    loss = loaded.evaluate(*few, verbose=0)[0]
    assert loss == pytest.approx(min(history.history["val_loss"]), rel=1e-4)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_it_learns_in_mixed_precision(learner, toy, dtype):
    classifier = learner(dtype=dtype, eager=False)
    assert classifier.backbone.blocks[0].compute_dtype == dtype.removeprefix("mixed_")
    classifier.fit(*toy, epochs=6, batch_size=8, verbose=0, seed=0)
    assert labels_of(classifier.classify(toy[0])) == toy[1]
    assert classifier.predict(toy[0], verbose=0).dtype == "float32"


# Saving


def assert_same_answers(classifier, other):
    assert type(other) is TextClassifier
    assert other.labels == classifier.labels
    assert other.multi_label == classifier.multi_label
    assert other.max_length == classifier.max_length
    assert other.tokenizer.get_config() == classifier.tokenizer.get_config()
    np.testing.assert_allclose(
        other.predict(TEXTS, verbose=0), classifier.predict(TEXTS, verbose=0), atol=1e-6
    )


ARGUMENTS = [
    {},
    {"labels": ["x", "y é", "z"], "multi_label": True, "max_length": 7, "dropout": 0.3},
    {"config": {"pooler": False}},
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_a_saved_model_is_the_same(tiny_classifier, tmp_path, arguments):
    classifier = tiny_classifier(**arguments)
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.saving.load_model(tmp_path / "classifier.keras")
    assert_same_answers(classifier, loaded)
    assert loaded.dropout == classifier.dropout


def test_a_saved_model_learns_on_with_the_default_settings(tiny_classifier, few, tmp_path):
    classifier = tiny_classifier()
    classifier.fit(*few, verbose=0)
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.saving.load_model(tmp_path / "classifier.keras")
    assert_same_answers(classifier, loaded)
    loaded.fit(*few, epochs=2, verbose=0)
    assert loaded.optimizer._learning_rate.total_steps == 2
    assert int(loaded.optimizer.iterations) == 2


def test_a_saved_model_learns_on_with_the_users_own_settings(learner, few, tmp_path):
    classifier = learner()
    classifier.fit(*few, verbose=0)
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.saving.load_model(tmp_path / "classifier.keras")
    assert_same_answers(classifier, loaded)
    assert loaded.evaluate(*few, verbose=0) == pytest.approx(classifier.evaluate(*few, verbose=0))
    loaded.fit(*few, verbose=0)
    assert float(loaded.optimizer.learning_rate) == pytest.approx(3e-3)
    assert int(loaded.optimizer.iterations) == 2


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_a_preset_is_the_same(tiny_classifier, tmp_path, arguments):
    classifier = tiny_classifier(**arguments)
    classifier.save_preset(tmp_path / "preset")
    loaded = TextClassifier.from_preset(tmp_path / "preset")
    assert_same_answers(classifier, loaded)


def test_a_preset_keeps_the_dropout_of_its_head(tiny_classifier, tmp_path):
    tiny_classifier(dropout=0.3).save_preset(tmp_path / "preset")
    assert TextClassifier.from_preset(tmp_path / "preset").dropout == 0.3


def test_a_preset_learns_on(tiny_classifier, toy, tmp_path):
    tiny_classifier().save_preset(tmp_path / "preset")
    loaded = TextClassifier.from_preset(tmp_path / "preset")
    loss = loaded.evaluate(*toy, verbose=0)[0]
    loaded.fit(*toy, batch_size=8, verbose=0, seed=0, learning_rate=1e-3)
    assert loaded.evaluate(*toy, verbose=0)[0] < loss


def test_a_preset_holds_no_pickle_and_names_its_labels(tiny_classifier, tmp_path):
    tiny_classifier(labels=["nein", "日本"]).save_preset(tmp_path / "preset")
    assert sorted(path.name for path in (tmp_path / "preset").iterdir()) == [
        "config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer_config.json",
        "vocab.txt",
    ]
    config = json.loads((tmp_path / "preset" / "config.json").read_text("utf-8"))
    assert config["id2label"] == {"0": "nein", "1": "日本"}
    assert config["label2id"] == {"nein": 0, "日本": 1}
    assert config["architectures"] == ["BertForSequenceClassification"]


def test_other_labels_start_a_new_head_on_the_same_encoder(tiny_classifier, tmp_path):
    classifier = tiny_classifier()
    classifier.save_preset(tmp_path / "preset")
    loaded = TextClassifier.from_preset(tmp_path / "preset", labels=["x", "y", "z"])
    assert loaded.labels == ["x", "y", "z"]
    inputs = classifier.tokenizer(TEXTS)
    np.testing.assert_allclose(
        loaded.backbone(inputs)["pooled_output"],
        classifier.backbone(inputs)["pooled_output"],
        atol=1e-6,
    )


def test_a_trained_preset_takes_new_settings(tiny_classifier, tmp_path):
    classifier = tiny_classifier(max_length=20)
    classifier.save_preset(tmp_path / "preset")
    same = TextClassifier.from_preset(tmp_path / "preset", dtype="mixed_bfloat16", max_length=9)
    assert same.max_length == 9
    assert same.backbone.compute_dtype == "bfloat16"
    np.testing.assert_array_equal(*(c.head.get_weights()[0] for c in (same, classifier)))
    new = TextClassifier.from_preset(tmp_path / "preset", load_weights=False)
    weights = [c.head.get_weights()[0] for c in (new, classifier)]
    assert np.abs(weights[0] - weights[1]).max() > 1e-3


def test_an_old_checkpoint_with_position_ids_loads(tiny_classifier, tmp_path):
    """`transformers` before 4.31 wrote this buffer into every file."""
    import safetensors.numpy

    classifier = tiny_classifier()
    classifier.save_preset(tmp_path / "preset")
    path = tmp_path / "preset" / checkpoint.WEIGHTS_NAME
    tensors = safetensors.numpy.load_file(path)
    tensors["bert.embeddings.position_ids"] = np.arange(32)[np.newaxis]
    safetensors.numpy.save_file(tensors, path)
    assert_same_answers(classifier, TextClassifier.from_preset(tmp_path / "preset"))


def edit_config(directory, **changes):
    path = directory / "config.json"
    config = json.loads(path.read_text("utf-8")) | changes
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def test_a_directory_without_architectures_needs_labels(tiny_classifier, tmp_path):
    tiny_classifier().save_preset(tmp_path / "preset")
    edit_config(tmp_path / "preset", architectures=None)
    with pytest.raises(ValueError, match="not a trained classifier, so it needs labels="):
        TextClassifier.from_preset(tmp_path / "preset")


def test_a_head_of_another_size_is_named(tiny_classifier, tmp_path):
    tiny_classifier().save_preset(tmp_path / "preset")
    edit_config(tmp_path / "preset", id2label={"0": "a", "1": "b", "2": "c"})
    with pytest.raises(CheckpointError, match=r"classifier.weight: file \(2, 32\), model \(3, 32"):
        TextClassifier.from_preset(tmp_path / "preset")


def test_ten_labels_keep_their_order(tiny_classifier, tmp_path):
    labels = [f"label {n}" for n in range(12)]  # "10" sorts before "2"
    tiny_classifier(labels=labels).save_preset(tmp_path / "preset")
    assert TextClassifier.from_preset(tmp_path / "preset").labels == labels


def test_a_pretrained_preset_starts_a_classifier(minilm_dir):
    classifier = TextClassifier.from_preset("minilm_l6_en_uncased", labels=["no", "yes"])
    assert classifier.backbone.config.num_layers == 6
    assert classifier.tokenizer.vocab_size == 30522
    assert len(classifier.classify(["what a lovely stream"])) == 1


def test_a_size_with_a_vocabulary_starts_a_classifier(vocabulary, tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(vocabulary))
    classifier = TextClassifier.from_preset("bert_tiny", labels=["no", "yes"], vocabulary=path)
    assert classifier.backbone.config.num_layers == 2
    assert len(classifier.classify(["what a lovely stream"])) == 1


def test_a_size_without_a_vocabulary_says_what_to_pass():
    with pytest.raises(ValueError, match=r"'bert_tiny' is a size.*vocabulary="):
        TextClassifier.from_preset("bert_tiny", labels=["no", "yes"])


def test_an_encoder_without_labels_says_what_to_pass(tiny_classifier, tmp_path):
    tiny_classifier().save_preset(tmp_path / "preset")
    edit_config(tmp_path / "preset", architectures=["BertModel"])
    with pytest.raises(ValueError, match=r"needs labels=\[…\], the label names"):
        TextClassifier.from_preset(tmp_path / "preset")


# Saving when something goes wrong


def test_a_failure_leaves_the_old_preset(tiny_classifier, tmp_path, monkeypatch):
    target = tmp_path / "preset"
    old = tiny_classifier(labels=["old", "older"])
    old.save_preset(target)

    def fail(table, path):
        path.write_bytes(b"half")
        raise RuntimeError("stopped half way")

    monkeypatch.setattr(checkpoint, "save", fail)
    with pytest.raises(RuntimeError, match="stopped half way"):
        tiny_classifier(labels=["new", "newer"]).save_preset(target)
    assert [path.name for path in tmp_path.iterdir()] == ["preset"]
    assert_same_answers(old, TextClassifier.from_preset(target))


def test_a_preset_replaces_an_older_one(tiny_classifier, tmp_path):
    tiny_classifier(labels=["old", "older"]).save_preset(tmp_path / "preset")
    new = tiny_classifier(labels=["new", "newer"])
    new.save_preset(tmp_path / "preset")
    assert [path.name for path in tmp_path.iterdir()] == ["preset"]
    assert_same_answers(new, TextClassifier.from_preset(tmp_path / "preset"))


def test_a_target_that_cannot_be_written_is_named(tiny_classifier, tmp_path):
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "preset"
    with pytest.raises(OSError, match=f"cannot write {target}"):
        tiny_classifier().save_preset(target)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_an_error_that_names_the_target(tiny_classifier, tmp_path):
    """A limit on the size of files stands in for the end of the disk."""
    import resource

    classifier, target = tiny_classifier(), tmp_path / "preset"
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, old[1]))
        with pytest.raises(OSError, match=f"cannot write {target}.*[Tt]oo large"):
            classifier.save_preset(target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert list(tmp_path.iterdir()) == []


# Wrong input

WRONG_TEXTS = {
    "one string": ("a film", "got one string; wrap it"),
    "None": (None, "must be a list of strings.*got NoneType"),
    "number": (5, "must be a list of strings.*got int"),
    "None among texts": (["a", None], r"texts\[1\] is None of type NoneType"),
    "number among texts": (["a", "b", 2], r"texts\[2\] is 2 of type int"),
    "missing value": ([float("nan"), "b"], r"texts\[0\] is nan of type float"),
    "text among pairs": ([("a", "b"), "c"], "item 0 is a pair of texts, but item 1 is 'c'"),
    "pair among texts": (["c", ("a", "b")], r"texts\[1\] is \('a', 'b'\)"),
    "pair with None": ([("a", None)], r"pairs\[0\] is None"),
    "triple": ([("a", "b", "c")], r"texts\[0\] is \('a', 'b', 'c'\)"),
    "array of numbers": (np.arange(3), r"texts\[0\] is .*0.* of type"),
}


@pytest.mark.parametrize(("texts", "message"), WRONG_TEXTS.values(), ids=WRONG_TEXTS.keys())
@pytest.mark.parametrize("verb", ["classify", "predict"])
def test_wrong_texts_are_named(tiny_classifier, verb, texts, message):
    with pytest.raises(TypeError, match=message):
        getattr(tiny_classifier(), verb)(texts)


@pytest.mark.parametrize("verb", ["fit", "evaluate"])
def test_wrong_texts_to_learn_from_are_named(tiny_classifier, verb):
    call = getattr(tiny_classifier(), verb)
    for texts, message in (WRONG_TEXTS[name] for name in ("None among texts", "text among pairs")):
        with pytest.raises(TypeError, match=message):
            call(texts, [0] * len(texts))


WRONG_LABELS = {
    "unknown name": (["negative", "neutral"], "unknown label 'neutral'.*'negative', 'positive'"),
    "unknown id": ([0, 2], "unknown label 2.*ids 0 to 1"),
    "negative id": ([0, -1], "unknown label -1"),
    "boolean": ([True, False], "unknown label True"),
    "fraction": ([0.5, 1.0], "unknown label 0.5"),
    "None": (["negative", None], "unknown label None"),
    "too few": (["negative"], "got 2 texts, but 1 labels; there must be one for each"),
    "too many": ([0, 1, 1], "got 2 texts, but 3 labels"),
    "left out": (None, "need their labels: pass y"),
}


@pytest.mark.parametrize(("labels", "message"), WRONG_LABELS.values(), ids=WRONG_LABELS.keys())
@pytest.mark.parametrize("verb", ["fit", "evaluate"])
def test_wrong_labels_are_named(tiny_classifier, verb, labels, message):
    with pytest.raises(ValueError, match=message):
        getattr(tiny_classifier(), verb)(["a", "b"], labels, verbose=0)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (["x", "y"], TypeError, "needs a list of labels for each text, got 'x' for text 0"),
        ([["x"], ["w"]], ValueError, "unknown label 'w'"),
        ([["x"], [5]], ValueError, "unknown label 5"),
        (np.zeros((2, 4)), ValueError, r"must be \[examples, 3\], got \(2, 4\)"),
        (np.zeros(2), ValueError, r"must be \[examples, 3\], got \(2,\)"),
    ],
    ids=str,
)
def test_wrong_multi_labels_are_named(tiny_classifier, labels, error, message):
    classifier = tiny_classifier(labels=["x", "y", "z"], multi_label=True)
    with pytest.raises(error, match=message):
        classifier.fit(["a", "b"], labels)


def test_lists_of_indicators_are_not_taken_for_ids(learner):
    """[0, 1, 0] is the indicator of the second label, or else it must be refused."""
    classifier = learner(labels=["x", "y", "z"], multi_label=True)
    texts = ["a good film", "bad"]
    rows = [[0, 1, 0], [1, 0, 1]]
    wanted = classifier.evaluate(texts, np.array(rows), verbose=0)[0]
    try:
        got = classifier.evaluate(texts, rows, verbose=0)[0]
    except (TypeError, ValueError):
        return
    assert got == pytest.approx(wanted)


def test_no_texts_to_learn_from(tiny_classifier):
    for verb in ("fit", "evaluate"):
        with pytest.raises(ValueError, match="got no texts"):
            getattr(tiny_classifier(), verb)([], [])


def test_too_few_sample_weights_are_counted(tiny_classifier):
    with pytest.raises(ValueError, match="got 2 texts, but 1 sample weights"):
        tiny_classifier().fit(["a", "b"], [0, 1], sample_weight=[1.0])


def test_an_unknown_class_weight_is_named(tiny_classifier):
    with pytest.raises(ValueError, match="unknown label 'neutral'"):
        tiny_classifier().fit(["a"], [0], class_weight={"neutral": 1.0})


def test_unequal_pairs_are_counted(tiny_classifier):
    with pytest.raises(ValueError, match="got 3 texts and 2 pairs"):
        tiny_classifier().classify((["a", "b", "c"], ["a", "b"]))


def test_a_data_set_of_numbers_is_refused(tiny_classifier):
    data = TOY_SET((tf.range(4), tf.zeros(4))).batch(2)
    with pytest.raises(TypeError, match=r"must give texts \(strings\) or tokenized inputs"):
        tiny_classifier().fit(data)


def test_an_unknown_label_in_a_data_set_is_an_error(tiny_classifier):
    data = TOY_SET((["a", "b"], ["negative", "neutral"])).batch(2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="label that is none of"):
        tiny_classifier().fit(data, verbose=0)


@pytest.mark.parametrize("max_length", [33, 2, 0, -1])
def test_a_max_length_beyond_the_model_is_refused(tiny_classifier, max_length):
    with pytest.raises(ValueError, match=f"from 3 to 32 .*got {max_length}"):
        tiny_classifier(max_length=max_length)


@pytest.mark.parametrize(
    ("labels", "error"),
    [([], ValueError), (["a", "a"], ValueError), ([0, 1], TypeError), (["a", None], TypeError)],
    ids=str,
)
def test_wrong_label_names_are_refused(tiny_classifier, labels, error):
    with pytest.raises(error, match="labels must be"):
        tiny_classifier(labels=labels)


def test_one_string_is_no_list_of_labels(tiny_classifier):
    backbone, tokenizer = tiny_classifier().backbone, tiny_classifier().tokenizer
    with pytest.raises(TypeError, match="labels must be a list of strings, got 'yes'"):
        TextClassifier(backbone, tokenizer, "yes")


def test_a_tokenizer_of_another_model_is_refused(vocabulary):
    backbone = Bert(BertConfig(vocab_size=50, hidden_dim=8, num_layers=1, num_heads=1))
    tokenizer = WordPieceTokenizer(vocabulary, max_length=16)
    with pytest.raises(ValueError, match="but the backbone only 50; they do not belong together"):
        TextClassifier(backbone, tokenizer, ["a", "b"])
