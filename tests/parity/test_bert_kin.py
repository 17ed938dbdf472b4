"""RoBERTa, DistilBERT and ELECTRA against `transformers`: every hidden state, both directions."""

import numpy as np
import pytest

from lingxi.zoo import Bert
from tests.parity.models import batch, compare_encoders, run_reference

pytestmark = [
    pytest.mark.parity,
    # Keras warns of a softmax over one key, which is what sequences of length 1 have.
    pytest.mark.filterwarnings("ignore:You are using a softmax"),
]

_SIZES = {
    "vocab_size": 101,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
}
_ODD = {
    "hidden_size": 36,
    "num_attention_heads": 3,
    "intermediate_size": 71,
    "vocab_size": 97,
}
CASES = {
    # name: (config class, model class, sizes)
    "roberta": ("RobertaConfig", "RobertaModel", {"type_vocab_size": 1, "pad_token_id": 1}),
    "roberta, odd sizes": ("RobertaConfig", "RobertaModel", {**_ODD, "type_vocab_size": 1}),
    "roberta, one head": (
        "RobertaConfig",
        "RobertaModel",
        {"num_attention_heads": 1, "type_vocab_size": 2, "pad_token_id": 5},
    ),
    "roberta, deep": (
        "RobertaConfig",
        "RobertaModel",
        {"num_hidden_layers": 7, "num_attention_heads": 32, "hidden_act": "gelu_new"},
    ),
    "distilbert": ("DistilBertConfig", "DistilBertModel", {}),
    "distilbert, odd sizes": ("DistilBertConfig", "DistilBertModel", _ODD),
    "distilbert, sinusoids": (
        "DistilBertConfig",
        "DistilBertModel",
        {"sinusoidal_pos_embds": True, "num_attention_heads": 1},
    ),
    "distilbert, deep": (
        "DistilBertConfig",
        "DistilBertModel",
        {"num_hidden_layers": 7, "num_attention_heads": 32, "activation": "relu"},
    ),
    "electra": ("ElectraConfig", "ElectraModel", {"embedding_size": 16}),
    "electra, odd sizes": ("ElectraConfig", "ElectraModel", {**_ODD, "embedding_size": 7}),
    "electra, no projection": (
        "ElectraConfig",
        "ElectraModel",
        {"embedding_size": 32, "num_attention_heads": 1, "type_vocab_size": 3},
    ),
    "electra, deep": (
        "ElectraConfig",
        "ElectraModel",
        {"embedding_size": 48, "num_hidden_layers": 7, "num_attention_heads": 32},
    ),
}
_DISTILBERT_NAMES = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
}


def reference_model(transformers, name):
    """A model of the reference whose every weight is random."""
    import torch

    torch.manual_seed(0)
    config_class, model_class, sizes = CASES[name]
    sizes = _SIZES | sizes
    if model_class == "DistilBertModel":
        sizes = {_DISTILBERT_NAMES.get(key, key): value for key, value in sizes.items()}
    model = getattr(transformers, model_class)(getattr(transformers, config_class)(**sizes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.requires_grad_(False).add_(torch.randn_like(parameter) * 0.1)
    return model


def inputs_for(reference, length, padding):
    """Ids of which exactly the padding is `pad_token_id`, as RoBERTa's positions expect."""
    config = reference.config
    if not hasattr(config, "type_vocab_size"):
        config.type_vocab_size = 1
    inputs = batch(config, length, padding)
    pad, ids = config.pad_token_id, inputs["token_ids"]
    ids = np.where(ids == pad, pad + 1, ids)
    return {**inputs, "token_ids": np.where(inputs["padding_mask"], ids, pad).astype("int32")}


def compare(model, reference, inputs, assert_near):
    ours = model(inputs, return_hidden_states=True)
    if not model.config.num_segments:  # DistilBERT takes none
        inputs = {name: value for name, value in inputs.items() if name != "segment_ids"}
    theirs = run_reference(reference, inputs)
    compare_encoders(ours, theirs, inputs["padding_mask"], assert_near)


@pytest.mark.parametrize("name", CASES)
def test_random_weights(name, transformers, tmp_path, assert_near):
    reference = reference_model(transformers, name)
    reference.save_pretrained(tmp_path)
    model = Bert.from_preset(tmp_path)
    assert model.count_params() == reference.num_parameters() == model.config.num_parameters
    for length in (1, 2, 7, model.config.max_length):
        for padding in ("right", "left"):
            compare(model, reference, inputs_for(reference, length, padding), assert_near)


@pytest.mark.parametrize("name", ["roberta, odd sizes", "distilbert, deep", "electra, odd sizes"])
def test_the_reference_loads_what_lingxi_saves(name, transformers, tmp_path, assert_near):
    reference_model(transformers, name).save_pretrained(tmp_path / "theirs")
    model = Bert.from_preset(tmp_path / "theirs")
    model.save_preset(tmp_path / "ours")
    reference = transformers.AutoModel.from_pretrained(tmp_path / "ours").eval()
    compare(model, reference, inputs_for(reference, 9, "left"), assert_near)
