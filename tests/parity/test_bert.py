"""BERT against `transformers`: hidden states, pooled output, gradients, classifiers."""

import numpy as np
import pytest

from lingxi.zoo import Bert
from tests.parity import models

pytestmark = [
    pytest.mark.parity,
    # Keras warns of a softmax over one key, which is what sequences of length 1 have.
    pytest.mark.filterwarnings("ignore:You are using a softmax"),
]


def lines(path, count):
    return path.read_text("utf-8").split("\n")[:count]


@pytest.fixture(scope="module")
def sentences(data_path):
    """Real sentences: reviews, and short and long ones of another kind."""
    reviews = [line.rsplit("\t", 1)[0] for line in lines(data_path("sst2/dev.tsv"), 24)]
    pairs = [line.split("\t")[:2] for line in lines(data_path("tatoeba_zh_en/dev.tsv"), 12)]
    return reviews + [text for pair in pairs for text in pair]


def compare(model, reference, inputs, assert_near):
    ours = model(inputs, return_hidden_states=True)
    theirs = models.run_reference(reference, inputs)
    models.compare_encoders(ours, theirs, inputs["padding_mask"], assert_near)


@pytest.mark.parametrize("name", models.CONFIGURATIONS)
def test_random_weights(name, transformers, tmp_path, assert_near):
    sizes = models.CONFIGURATIONS[name]
    reference = models.save_reference(transformers, tmp_path, **sizes)
    model = Bert.from_preset(tmp_path)
    assert model.count_params() == reference.num_parameters() == model.config.num_parameters
    for length in (1, 2, 7, model.config.max_length):
        for padding in ("right", "left"):
            inputs = models.batch(reference.config, length, padding)
            compare(model, reference, inputs, assert_near)


def test_the_reference_loads_what_lingxi_saves(transformers, tmp_path, assert_near):
    import json

    from lingxi.zoo import BertConfig, checkpoint

    config = BertConfig(
        vocab_size=31, hidden_dim=12, num_layers=2, num_heads=3, intermediate_dim=7, max_length=9
    )
    model = Bert(config)
    (tmp_path / "config.json").write_text(json.dumps(Bert.layouts["bert"].to_contents(config)))
    checkpoint.save(model.checkpoint_table(), tmp_path / "model.safetensors")
    reference = transformers.AutoModel.from_pretrained(tmp_path).eval()
    compare(model, reference, models.batch(reference.config, 9), assert_near)


def test_pretrained_weights_on_real_sentences(transformers, minilm_dir, sentences, assert_near):
    from lingxi.text import WordPieceTokenizer

    assert len(sentences) >= 32
    tokenizer = WordPieceTokenizer.from_directory(minilm_dir)
    theirs = transformers.AutoTokenizer.from_pretrained(minilm_dir)
    reference = transformers.AutoModel.from_pretrained(minilm_dir).eval()
    model = Bert.from_preset("minilm_l6_en_uncased")
    for start in range(0, len(sentences), 16):
        texts = sentences[start : start + 16]
        inputs = {name: value.numpy() for name, value in tokenizer(texts).items()}
        encoded = theirs(texts, padding=True, return_tensors="np")
        np.testing.assert_array_equal(inputs["token_ids"], encoded["input_ids"])
        np.testing.assert_array_equal(inputs["padding_mask"], encoded["attention_mask"])
        compare(model, reference, inputs, assert_near)


def test_gradients(transformers, tmp_path, assert_near):
    import tensorflow as tf
    import torch

    sizes = models.CONFIGURATIONS["odd sizes, one head of three"]
    reference = models.save_reference(transformers, tmp_path, **sizes)
    inputs = models.batch(reference.config, 9)
    weights = np.random.default_rng(1).normal(size=(3, 9, 36)).astype("float32")
    weights *= inputs["padding_mask"][..., np.newaxis]

    theirs = reference(
        input_ids=torch.tensor(inputs["token_ids"]).long(),
        token_type_ids=torch.tensor(inputs["segment_ids"]).long(),
        attention_mask=torch.tensor(inputs["padding_mask"]).long(),
    )
    loss = (theirs.last_hidden_state * torch.tensor(weights)).mean()
    (loss + theirs.pooler_output.square().mean()).backward()
    wanted = {name: p.grad.numpy() for name, p in reference.named_parameters()}

    model = Bert.from_preset(tmp_path)

    def loss():
        ours = model(inputs)
        value = tf.reduce_mean(ours["sequence_output"] * weights)
        return value + tf.reduce_mean(tf.square(ours["pooled_output"]))

    models.compare_gradients(model, loss, wanted, assert_near, no_influence="key.bias")


@pytest.mark.slow
@models.needs_jax
def test_hidden_states_on_jax(transformers, tmp_path, assert_near):
    names = ["plain", "odd sizes, one head of three", "one layer"]
    inputs, theirs = {}, {}
    for index, name in enumerate(names):
        directory = tmp_path / str(index)
        reference = models.save_reference(transformers, directory, **models.CONFIGURATIONS[name])
        padding = "right" if index else "left"
        inputs[directory] = models.batch(reference.config, 9, padding)
        theirs[directory] = models.run_reference(reference, inputs[directory])
    for directory, ours in models.run_on_jax("Bert", inputs).items():
        mask = inputs[directory]["padding_mask"]
        models.compare_encoders(ours, theirs[directory], mask, assert_near, " on JAX")
