"""GPT-1, GPT-2 and GPT-Neo against `transformers`: hidden states, logits, gradients."""

import keras
import numpy as np
import pytest

from lingxi.zoo import Gpt
from tests.parity.models import batch, compare_gradients, needs_jax, run_on_jax, run_reference

pytestmark = [
    pytest.mark.parity,
    # Keras warns of a softmax over one key, which is what sequences of length 1 have.
    pytest.mark.filterwarnings("ignore:You are using a softmax"),
]

numpy = keras.ops.convert_to_numpy
_GPT = {"vocab_size": 101, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 24}
_ODD = {"vocab_size": 97, "n_embd": 36, "n_layer": 3, "n_head": 3, "n_positions": 25}
_NEO = {
    "vocab_size": 101,
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "max_position_embeddings": 24,
    "window_size": 5,
    "attention_types": [[["global", "local"], 1]],
}
CASES = {
    # name: (config class, model class, sizes)
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", _GPT),
    "gpt2, odd sizes": ("GPT2Config", "GPT2LMHeadModel", {**_ODD, "n_inner": 71}),
    "gpt2, one head": (
        "GPT2Config",
        "GPT2LMHeadModel",
        {**_GPT, "n_head": 1, "activation_function": "relu"},
    ),
    "gpt2, deep": (
        "GPT2Config",
        "GPT2LMHeadModel",
        {**_GPT, "n_layer": 8, "n_head": 32, "layer_norm_epsilon": 1e-3},
    ),
    "gpt1": ("OpenAIGPTConfig", "OpenAIGPTLMHeadModel", _GPT),
    "gpt1, odd sizes": ("OpenAIGPTConfig", "OpenAIGPTLMHeadModel", _ODD),
    "gpt1, one head": ("OpenAIGPTConfig", "OpenAIGPTLMHeadModel", {**_GPT, "n_head": 1}),
    "gpt1, deep": (
        "OpenAIGPTConfig",
        "OpenAIGPTLMHeadModel",
        {**_GPT, "n_layer": 7, "n_head": 32, "afn": "relu"},
    ),
    "gpt neo": ("GPTNeoConfig", "GPTNeoForCausalLM", _NEO),
    "gpt neo, odd sizes": (
        "GPTNeoConfig",
        "GPTNeoForCausalLM",
        {**_NEO, "hidden_size": 36, "num_heads": 3, "intermediate_size": 71, "window_size": 3},
    ),
    "gpt neo, one head": (
        "GPTNeoConfig",
        "GPTNeoForCausalLM",
        {**_NEO, "num_heads": 1, "attention_types": [[["local"], 2]], "window_size": 1},
    ),
    "gpt neo, deep": (
        "GPTNeoConfig",
        "GPTNeoForCausalLM",
        {
            **_NEO,
            "num_layers": 7,
            "num_heads": 32,
            "attention_types": [[["global", "local", "local"], 2], [["global"], 1]],
        },
    ),
}


def reference_model(transformers, name):
    """A model of the reference whose every weight is random."""
    import torch

    torch.manual_seed(0)
    config_class, model_class, sizes = CASES[name]
    config = getattr(transformers, config_class)(**sizes)
    model = getattr(transformers, model_class)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def inputs_for(reference, length, padding):
    reference.config.type_vocab_size = 1
    inputs = batch(reference.config, length, padding)
    del inputs["segment_ids"]
    return inputs


def compare(ours, theirs, mask, assert_near, label=""):
    assert len(ours["hidden_states"]) == len(theirs.hidden_states)
    for mine, other in zip(ours["hidden_states"], theirs.hidden_states, strict=True):
        assert_near(f"hidden states{label}", numpy(mine)[mask], other.numpy()[mask])
    assert_near(f"logits{label}", numpy(ours["logits"])[mask], theirs.logits.numpy()[mask])


@pytest.mark.parametrize("name", CASES)
def test_random_weights(name, transformers, tmp_path, assert_near):
    reference = reference_model(transformers, name)
    reference.save_pretrained(tmp_path)
    model = Gpt.from_preset(tmp_path)
    assert model.count_params() == reference.num_parameters() == model.config.num_parameters
    for length in (1, 2, 7, model.config.max_length):
        for padding in ("right", "left"):
            inputs = inputs_for(reference, length, padding)
            ours = model(inputs, return_hidden_states=True)
            compare(ours, run_reference(reference, inputs), inputs["padding_mask"], assert_near)


@pytest.mark.parametrize("name", ["gpt2, odd sizes", "gpt1, deep", "gpt neo, deep"])
def test_the_reference_loads_what_lingxi_saves(name, transformers, tmp_path, assert_near):
    reference_model(transformers, name).save_pretrained(tmp_path / "theirs")
    model = Gpt.from_preset(tmp_path / "theirs")
    model.save_preset(tmp_path / "ours")
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval()
    inputs = inputs_for(reference, 9, "right")
    ours = model(inputs, return_hidden_states=True)
    compare(ours, run_reference(reference, inputs), inputs["padding_mask"], assert_near)


@pytest.mark.parametrize("name", ["gpt2, odd sizes", "gpt1, odd sizes", "gpt neo, odd sizes"])
def test_gradients(name, transformers, tmp_path, assert_near):
    import tensorflow as tf
    import torch

    reference = reference_model(transformers, name)
    reference.save_pretrained(tmp_path)
    inputs = inputs_for(reference, 9, "right")
    vocabulary = reference.config.vocab_size
    weights = np.random.default_rng(1).normal(size=(3, 9, vocabulary)).astype("float32")
    weights *= inputs["padding_mask"][..., np.newaxis]
    theirs = reference(
        input_ids=torch.tensor(inputs["token_ids"]).long(),
        attention_mask=torch.tensor(inputs["padding_mask"]).long(),
    )
    (theirs.logits * torch.tensor(weights)).mean().backward()
    wanted = {n: p.grad.numpy() for n, p in reference.named_parameters() if p.grad is not None}

    model = Gpt.from_preset(tmp_path)

    def loss():
        return tf.reduce_mean(model(inputs)["logits"] * weights)

    compare_gradients(model, loss, wanted, assert_near)


@pytest.mark.slow
@needs_jax
def test_hidden_states_and_logits_on_jax(transformers, tmp_path, assert_near):
    inputs, theirs = {}, {}
    for name in ("gpt2, odd sizes", "gpt1", "gpt neo, deep"):
        directory = tmp_path / name
        reference = reference_model(transformers, name)
        reference.save_pretrained(directory)
        inputs[directory] = inputs_for(reference, 9, "left")
        theirs[directory] = run_reference(reference, inputs[directory])
    for directory, ours in run_on_jax("Gpt", inputs).items():
        mask = inputs[directory]["padding_mask"]
        compare(ours, theirs[directory], mask, assert_near, " on JAX")
