"""T5, T5 1.1 and Flan-T5 against `transformers`: hidden states, logits, gradients."""

import keras
import numpy as np
import pytest

from lingxi.zoo import T5
from tests.parity.models import compare_gradients, needs_jax, run_on_jax

pytestmark = [
    pytest.mark.parity,
    # Keras warns of a softmax over one key, which is what sequences of length 1 have.
    pytest.mark.filterwarnings("ignore:You are using a softmax"),
]

numpy = keras.ops.convert_to_numpy
_T5 = {
    "vocab_size": 101,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
_V1_1 = {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
CASES = {
    "1.0": _T5,
    "1.0, odd sizes": {**_T5, "vocab_size": 97, "d_model": 33, "d_kv": 5, "d_ff": 71},
    "1.0, one head, decoder deeper": {**_T5, "num_heads": 1, "num_layers": 1},
    "1.0, few buckets": {
        **_T5,
        "relative_attention_num_buckets": 6,
        "relative_attention_max_distance": 11,
    },
    "1.1": _V1_1,
    "1.1, many heads, wide": {**_V1_1, "num_heads": 16, "d_kv": 6},
    "1.1, encoder deeper": {**_V1_1, "num_layers": 6, "layer_norm_epsilon": 1e-3},
    "1.1, tied": {**_V1_1, "feed_forward_proj": "gated-silu", "d_ff": 37},
}
_DECODER_LAYERS = {"1.0, one head, decoder deeper": 4, "1.1, encoder deeper": 1}
LENGTHS = [(1, 1), (7, 2), (1, 9), (300, 3), (5, 280)]  # encoder, decoder


def reference_model(transformers, name):
    """A model of the reference, all weights random, whose hidden states are of order 1."""
    import torch

    torch.manual_seed(0)
    layers = _DECODER_LAYERS.get(name, CASES[name]["num_layers"])
    config = transformers.T5Config(**CASES[name], num_decoder_layers=layers)
    model = transformers.T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        if not config.scale_decoder_outputs and "tied" not in name:  # the constructor ties them
            head = torch.randn_like(model.shared.weight) * config.d_model**-0.5
            model.lm_head.weight = torch.nn.Parameter(head)
        for parameter in model.parameters():
            parameter.mul_(0.7).add_(torch.randn_like(parameter) * 0.05)
        for stack in (model.encoder, model.decoder):
            stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight.normal_()
    return model


def save(reference, directory):
    """As transformers does, with the head beside the embeddings where it is not tied."""
    if reference.lm_head.weight is not reference.shared.weight:
        reference.all_tied_weights_keys.pop("lm_head.weight", None)
    reference.save_pretrained(directory)


def batch(vocabulary, lengths, padding):
    """Encoder and decoder inputs of which every row but the first is padded."""
    random = np.random.default_rng(0)
    inputs = {}
    for stack, length in zip(("encoder", "decoder"), lengths, strict=True):
        real = np.maximum(1, length - np.arange(3) * max(1, length // 3))
        mask = np.arange(length) < real[:, np.newaxis]
        inputs[f"{stack}_padding_mask"] = mask[:, ::-1].copy() if padding == "left" else mask
        ids = random.integers(0, vocabulary, (3, length))
        inputs[f"{stack}_token_ids"] = ids.astype("int32")
    return inputs


def run_reference(reference, inputs):
    import torch

    return reference(
        input_ids=torch.tensor(inputs["encoder_token_ids"]).long(),
        attention_mask=torch.tensor(inputs["encoder_padding_mask"]).long(),
        decoder_input_ids=torch.tensor(inputs["decoder_token_ids"]).long(),
        decoder_attention_mask=torch.tensor(inputs["decoder_padding_mask"]).long(),
        output_hidden_states=True,
        use_cache=False,
    )


def without_gradients(reference, inputs):
    import torch

    with torch.no_grad():
        return run_reference(reference, inputs)


def compare(ours, theirs, inputs, assert_near, label=""):
    encoder, decoder = inputs["encoder_padding_mask"], inputs["decoder_padding_mask"]
    for name, wanted, mask in (
        ("encoder_hidden_states", theirs.encoder_hidden_states, encoder),
        ("hidden_states", theirs.decoder_hidden_states, decoder),
    ):
        for mine, other in zip(ours[name], wanted, strict=True):
            assert_near(f"{name}{label}", numpy(mine)[mask], other.numpy()[mask])
    assert_near(f"logits{label}", numpy(ours["logits"])[decoder], theirs.logits.numpy()[decoder])


@pytest.mark.parametrize("name", CASES)
def test_random_weights(name, transformers, tmp_path, assert_near):
    reference = reference_model(transformers, name)
    save(reference, tmp_path)
    model = T5.from_preset(tmp_path)
    assert model.config.tie_head == ("1.0" in name or "tied" in name)
    assert model.config.scale_head == ("1.0" in name)
    assert model.count_params() == reference.num_parameters() == model.config.num_parameters
    for lengths in LENGTHS:
        for padding in ("right", "left"):
            inputs = batch(model.config.vocab_size, lengths, padding)
            ours = model(inputs, return_hidden_states=True)
            compare(ours, without_gradients(reference, inputs), inputs, assert_near)


@pytest.mark.parametrize("name", ["1.0, odd sizes", "1.1, encoder deeper", "1.1, tied"])
def test_the_reference_loads_what_lingxi_saves(name, transformers, tmp_path, assert_near):
    save(reference_model(transformers, name), tmp_path / "theirs")
    model = T5.from_preset(tmp_path / "theirs")
    model.save_preset(tmp_path / "ours")
    reference = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "ours").eval()
    inputs = batch(model.config.vocab_size, (9, 8), "right")
    ours = model(inputs, return_hidden_states=True)
    compare(ours, without_gradients(reference, inputs), inputs, assert_near)


def test_a_scaled_head_that_is_not_tied(transformers, tmp_path, assert_near):
    from lingxi.zoo import T5Config

    config = T5Config(
        vocab_size=31, hidden_dim=12, num_heads=3, head_dim=2, intermediate_dim=7, tie_head=False
    )
    keras.utils.set_random_seed(1)
    model = T5(config)
    model.save_preset(tmp_path)
    assert T5.from_preset(tmp_path).config == config
    reference = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    inputs = batch(31, (9, 8), "right")
    ours = model(inputs, return_hidden_states=True)
    compare(ours, without_gradients(reference, inputs), inputs, assert_near)


@pytest.mark.parametrize("name", ["1.0, odd sizes", "1.1"])
def test_gradients(name, transformers, tmp_path, assert_near):
    import tensorflow as tf
    import torch

    reference = reference_model(transformers, name)
    save(reference, tmp_path)
    model = T5.from_preset(tmp_path)
    inputs = batch(model.config.vocab_size, (9, 8), "right")
    weights = np.random.default_rng(1).normal(size=(3, 8, model.config.vocab_size))
    weights = weights.astype("float32") * inputs["decoder_padding_mask"][..., np.newaxis]
    (run_reference(reference, inputs).logits * torch.tensor(weights)).mean().backward()
    wanted = {n: p.grad.numpy() for n, p in reference.named_parameters() if p.grad is not None}

    def loss():
        return tf.reduce_mean(model(inputs)["logits"] * weights)

    compare_gradients(model, loss, wanted, assert_near)


@pytest.mark.slow
@needs_jax
def test_hidden_states_and_logits_on_jax(transformers, tmp_path, assert_near):
    inputs, theirs = {}, {}
    for name in ("1.0, odd sizes", "1.0, few buckets", "1.1, encoder deeper"):
        directory = tmp_path / name
        reference = reference_model(transformers, name)
        save(reference, directory)
        inputs[directory] = batch(reference.config.vocab_size, (150, 8), "left")
        theirs[directory] = without_gradients(reference, inputs[directory])
    for directory, ours in run_on_jax("T5", inputs).items():
        compare(ours, theirs[directory], inputs[directory], assert_near, " on JAX")
