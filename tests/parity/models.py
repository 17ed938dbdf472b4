"""Reference models with random weights, and batches for them, without any deep-learning backend."""

import numpy as np

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


def run_reference(model, inputs, **kwargs):
    import torch

    with torch.no_grad():
        return model(
            input_ids=torch.tensor(inputs["token_ids"]).long(),
            token_type_ids=torch.tensor(inputs["segment_ids"]).long(),
            attention_mask=torch.tensor(inputs["padding_mask"]).long(),
            **kwargs,
        )
