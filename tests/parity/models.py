"""What the architectures' tests share: random reference models, batches, comparisons, JAX.

Nothing here imports a deep-learning backend until it is called.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None,
    reason="needs the extra `jax`: pip install 'lingxi[jax]'",
)

SIZES = {
    "vocab_size": 101,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
    "type_vocab_size": 2,
}
CONFIGURATIONS = {
    "plain": {},
    "odd sizes, one head of three": {
        "hidden_size": 36,
        "num_attention_heads": 3,
        "intermediate_size": 71,
        "vocab_size": 97,
    },
    "one head": {"num_attention_heads": 1, "type_vocab_size": 3},
    "heads of width one": {"num_attention_heads": 32, "hidden_act": "relu"},
    "one layer": {"num_hidden_layers": 1, "type_vocab_size": 1, "hidden_act": "gelu_new"},
    "deep": {"num_hidden_layers": 8, "layer_norm_eps": 1e-5},
    "silu": {"hidden_act": "silu", "max_position_embeddings": 25},
}


def save_reference(transformers, directory, head="BertModel", seed=0, **sizes):
    """A reference model with random weights of every kind, saved to `directory`."""
    import torch

    torch.manual_seed(seed)
    config = transformers.BertConfig(**SIZES | sizes)
    model = getattr(transformers, head)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # also biases and norms, which start at 0 and 1
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(directory)
    return model


def batch(config, length, padding="right", rows=3, seed=0):
    """Inputs of which every row but the first is padded, as NumPy arrays by our names."""
    random = np.random.default_rng(seed)
    real = np.maximum(1, length - np.arange(rows) * max(1, length // 3))  # tokens of each row
    mask = np.arange(length) < real[:, np.newaxis]
    if padding == "left":
        mask = mask[:, ::-1]
    return {
        "token_ids": random.integers(0, config.vocab_size, (rows, length)).astype("int32"),
        "segment_ids": random.integers(0, config.type_vocab_size, (rows, length)).astype("int32"),
        "padding_mask": mask.copy(),
    }


def run_reference(model, inputs):
    """The reference's outputs, hidden states among them, for inputs by our names."""
    import torch

    theirs = {
        "token_ids": "input_ids",
        "segment_ids": "token_type_ids",
        "padding_mask": "attention_mask",
    }
    tensors = {theirs[name]: torch.tensor(value).long() for name, value in inputs.items()}
    with torch.no_grad():
        return model(**tensors, output_hidden_states=True)


def compare_encoders(ours, theirs, mask, assert_near, label=""):
    """Every hidden state of real tokens and, where there is one, the pooled output."""
    assert len(ours["hidden_states"]) == len(theirs.hidden_states)
    for mine, other in zip(ours["hidden_states"], theirs.hidden_states, strict=True):
        assert_near(f"hidden states{label}", np.asarray(mine)[mask], other.numpy()[mask])
    assert ("pooled_output" in ours) == ("pooler_output" in theirs)
    if "pooled_output" in ours:
        assert_near(f"pooled output{label}", ours["pooled_output"], theirs.pooler_output.numpy())


def compare_gradients(model, loss, wanted, assert_near, no_influence=()):
    """The gradients of `loss()`, which runs `model`, beside those of the reference.

    Args:
        wanted: `{name in the checkpoint: gradient}`, of every tensor that the model has.
        no_influence: ends of names of tensors on which the loss does not depend: their gradients
            are rounding errors, and need not be above 1e-7.
    """
    import tensorflow as tf

    table = model.checkpoint_table()
    with tf.GradientTape() as tape:
        value = loss()
    gradients = tape.gradient(value, [entry.variable.value for entry in table])
    checked = set()
    for entry, gradient in zip(table, gradients, strict=True):
        parts = np.split(tf.convert_to_tensor(gradient).numpy(), len(entry.names), axis=-1)
        for name, part in zip(entry.names, parts, strict=True):
            got = part.T if entry.transpose else part
            scale = np.abs(wanted[name]).max()
            assert scale > 1e-7 or name.endswith(no_influence), name
            assert_near("gradients", got, wanted[name])
            if scale > 1e-7:
                assert_near("gradients / greatest", got / scale, wanted[name] / scale)
            checked.add(name)
    assert checked == set(wanted)


_RUN_ON_JAX = """
import sys, keras, numpy as np
from lingxi import zoo
assert keras.backend.backend() == "jax"
for directory in sys.argv[2:]:
    model = getattr(zoo, sys.argv[1]).from_preset(directory)
    outputs = model(dict(np.load(directory + "/inputs.npz")), return_hidden_states=True)
    np.savez(directory + "/outputs.npz", **outputs)  # tuples of states as one array
"""


def run_on_jax(architecture, inputs):
    """`{directory: outputs}` of the model in each directory, run in a process on JAX.

    Args:
        architecture: the name of a class in `lingxi.zoo`.
        inputs: `{directory: inputs}`.
    """
    for directory, arrays in inputs.items():
        np.savez(directory / "inputs.npz", **arrays)
    result = subprocess.run(
        [sys.executable, "-c", _RUN_ON_JAX, architecture, *map(str, inputs)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return {directory: dict(np.load(directory / "outputs.npz")) for directory in inputs}
