"""What the TensorBoard callback writes, read by TensorBoard."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lingxi.training import Checkpoints, TensorBoard
from tests.tasks.test_resume import Dies

pytest.importorskip("tensorboard", reason="TensorBoard is not installed (extra tensorboard)")

TEXTS = ["good | film", "bad", "the good film", "bad night"]
LABELS = ["positive", "negative", "positive", "negative"]


def fit(task, callback, *others, epochs=2, **options):
    """Train without learning anything: the gradients of both epochs are the same."""
    task.compile(keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.0, 9)))
    options = {"batch_size": 4, "seed": 1, "shuffle": False, "verbose": 0, **options}
    task.fit(TEXTS, LABELS, epochs=epochs, callbacks=[callback, *others], **options)


def values(directory, tag):
    """`{step: tensor}` of a summary."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory)).Reload()
    return {event.step: tf.make_ndarray(event.tensor_proto) for event in events.Tensors(tag)}


def test_rates_norms_answers_and_embeddings_are_written(tiny_classifier, tmp_path):
    task = tiny_classifier()
    fit(task, TensorBoard(tmp_path, TEXTS, LABELS, update_freq=1))
    assert values(tmp_path / "train", "batch_learning_rate") == {1: 0.0, 2: 0.0}

    with tf.GradientTape() as tape:
        inputs, targets = task.encode_in_graph(tf.constant(TEXTS)), task.targets(LABELS)
        loss = task.compute_loss(inputs, targets, task(inputs))
    gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, task.trainable_weights)]
    norm = float(tf.linalg.global_norm(gradients))
    found = values(tmp_path / "train", "batch_gradient_norm")
    assert found == {1: pytest.approx(norm, rel=1e-5), 2: pytest.approx(norm, rel=1e-5)}
    assert "apply" not in vars(task.optimizer)

    table = values(tmp_path / "validation", "answers")[1].item().decode()
    head, rule, first, *_ = table.splitlines()
    assert (head, rule) == ("| text | answer | wanted |", "| --- | --- | --- |")
    answer = task.classify(TEXTS)[0]
    assert first == rf"| good \| film | {answer.label} {answer.score:.2f} | positive |"

    table, tokens = projected(tmp_path)
    np.testing.assert_array_equal(table, task.backbone.token_embedding.embeddings)
    assert tokens == task.tokenizer.vocabulary


def projected(directory):
    """The projector's table and its labels, as its plugin reads them."""
    from google.protobuf import text_format
    from tensorboard.plugins import projector
    from tensorboard.plugins.projector import projector_plugin

    text = (directory / "projector_config.pbtxt").read_text()
    (config,) = text_format.Parse(text, projector.ProjectorConfig()).embeddings
    path = str(directory / config.tensor_path)
    table = projector_plugin._read_tensor_binary_file(path, config.tensor_shape)
    return table, (directory / config.metadata_path).read_text("utf-8").splitlines()


def test_curves_go_on_with_a_resumed_training(tiny_classifier, tmp_path):
    def train(*others):
        callback = TensorBoard(tmp_path / "logs", update_freq=1, projector=False)
        fit(tiny_classifier(), callback, *others, resume=Checkpoints(tmp_path, every_steps=1))

    with pytest.raises(RuntimeError, match="the power went off"):
        train(Dies(2))
    train()
    assert sorted(values(tmp_path / "logs" / "train", "batch_loss")) == [1, 2]


def test_without_curves_by_step_nothing_is_measured(tiny_classifier, tmp_path):
    task = tiny_classifier()
    fit(task, TensorBoard(tmp_path, update_freq="epoch", projector=False), epochs=1)
    assert list(values(tmp_path / "train", "epoch_learning_rate")) == [0]
    with pytest.raises(KeyError):
        values(tmp_path / "train", "batch_gradient_norm")


def test_samples_need_as_many_answers(tmp_path):
    with pytest.raises(ValueError, match="got 4 samples and 1 right answers"):
        TensorBoard(tmp_path, TEXTS, ["positive"])
