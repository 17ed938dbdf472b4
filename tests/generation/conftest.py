"""Tiny models with random weights, and loops compiled as each backend does it."""

import keras
import numpy as np
import pytest

from lingxi.zoo import T5, Gpt, GptConfig, T5Config, Transformer, TransformerConfig

VOCAB = 23
SIZES = {"vocab_size": VOCAB, "hidden_dim": 16, "num_heads": 2}
STACKS = {"num_encoder_layers": 1, "num_decoder_layers": 2, "intermediate_dim": 24}
MODELS = {
    "gpt": lambda: Gpt(GptConfig(**SIZES, num_layers=2, max_length=64)),
    "banded gpt": lambda: Gpt(
        GptConfig(**SIZES, num_layers=2, max_length=64, attention_windows=(None, 4))
    ),
    "transformer": lambda: Transformer(
        TransformerConfig(**SIZES, **STACKS, max_length=64, logits_bias=True)
    ),
    "bart": lambda: Transformer(
        TransformerConfig(**SIZES, **STACKS, max_length=64, positions="learned", position_offset=2)
    ),
    "t5": lambda: T5(T5Config(**SIZES, **STACKS, head_dim=8)),
}


@pytest.fixture(scope="session")
def model():
    """A function: the model of that name, every weight of which is random."""
    made = {}

    def make(name, seed=0):
        if (name, seed) not in made:
            instance = made[name, seed] = MODELS[name]()
            generator = np.random.default_rng(seed)
            for weight in instance.trainable_weights:
                weight.assign(generator.normal(0, 0.5, weight.shape))
        return made[name, seed]

    return make


def prompts(model, lengths, padding="right", seed=0):
    """What `model` takes, with one row for each of `lengths`."""
    generator = np.random.default_rng(seed)
    longest = max(lengths)
    mask = np.arange(longest) < np.array(lengths)[:, np.newaxis]
    ids = generator.integers(3, VOCAB, mask.shape)
    if padding == "left":
        mask = mask[:, ::-1]
        shifted = np.zeros_like(ids)
        for row, length in enumerate(lengths):
            shifted[row, longest - length :] = ids[row, :length]
        ids = shifted
    ids = np.where(mask, ids, 0).astype("int32")
    side = "" if isinstance(model, Gpt) else "encoder_"
    return {f"{side}token_ids": ids, f"{side}padding_mask": mask.copy()}


def compiled(function):
    """`function` of tensors as one graph; NumPy arrays come back."""
    if keras.backend.backend() == "jax":
        import jax

        graph = jax.jit(function)
    else:
        import tensorflow as tf

        graph = tf.function(function, autograph=False, reduce_retracing=True)

    def call(*inputs):
        return {k: keras.ops.convert_to_numpy(v) for k, v in graph(*inputs).items()}

    return call


def rows(made):
    """The tokens of each result, without the padding behind their end."""
    return [
        [ids[:count].tolist() for ids, count in zip(*example, strict=True)]
        for example in zip(made["token_ids"], made["lengths"], strict=True)
    ]
