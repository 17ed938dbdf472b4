import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from lingxi import training
from lingxi.training.interception import intercepted
from lingxi.zoo import T5, T5Config

TEXTS = ["a great film", "an awful story", "a warm day by the river", "dull"] * 4
LABELS = ["positive", "negative", "positive", "negative"] * 4
DROPOUT = {"dropout": 0.2, "attention_dropout": 0.1, "num_layers": 2}


def trained(tiny_classifier, around):
    task = tiny_classifier(config=DROPOUT)
    keras.utils.set_random_seed(1)
    with around(task):
        history = task.fit(TEXTS, LABELS, epochs=2, batch_size=4, seed=1, verbose=0).history
    return history["loss"], task.get_weights(), task


def test_a_training_is_the_same_with_dropout_too(tiny_classifier):
    losses, weights, _ = trained(tiny_classifier, contextlib.nullcontext)
    again, others, task = trained(tiny_classifier, training.recomputed)
    np.testing.assert_allclose(again, losses, rtol=1e-5)
    for one, other in zip(weights, others, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)
    assert not any("call" in vars(layer) for layer in task._flatten_layers())


def gradients(model, inputs):
    with tf.GradientTape() as tape:
        outputs = model(inputs, training=True)["sequence_output"]
        factors = tf.cast(tf.range(tf.size(outputs)) % 7, tf.float32)
        loss = tf.reduce_sum(outputs * tf.reshape(factors, outputs.shape))
    return tape.gradient(loss, model.trainable_weights)


@pytest.fixture
def t5():
    keras.utils.set_random_seed(2)
    sizes = {"hidden_dim": 16, "num_encoder_layers": 2, "num_decoder_layers": 2}
    sizes |= {"num_heads": 2, "intermediate_dim": 32}
    return T5(T5Config(vocab_size=50, dropout=0.0, head_dim=8, **sizes))


def test_position_biases_and_contexts_have_their_gradients(t5):
    ids, mask = np.arange(20).reshape(2, 10), np.ones((2, 10), bool)
    inputs = {"encoder_token_ids": ids, "encoder_padding_mask": mask}
    inputs |= {"decoder_token_ids": ids[:, :7], "decoder_padding_mask": mask[:, :7]}
    wanted = gradients(t5, inputs)
    with training.recomputed(t5):
        found = gradients(t5, inputs)
    for one, other, weight in zip(wanted, found, t5.trainable_weights, strict=True):
        if one is None:
            assert other is None, weight.path
            continue
        one, other = (tf.convert_to_tensor(gradient).numpy() for gradient in (one, other))
        np.testing.assert_allclose(other, one, atol=1e-4 * np.abs(one).max(), err_msg=weight.path)


def test_blocks_run_again_when_gradients_are_wanted(tiny_classifier):
    task = tiny_classifier(config=DROPOUT)
    inputs, calls = task.tokenizer(TEXTS[:2]), []
    attention = task.backbone.blocks[0].attention

    def counted(call, *args, **kwargs):
        calls.append(1)
        return call(*args, **kwargs)

    with training.recomputed(task), intercepted(attention, counted):
        task(inputs)
        assert len(calls) == 1
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(task(inputs, training=True))
        assert len(calls) == 2
        tape.gradient(loss, task.trainable_weights)
        assert len(calls) == 3


def test_a_model_without_blocks_is_refused():
    model = keras.Sequential([keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="no TransformerBlock"), training.recomputed(model):
        pass
