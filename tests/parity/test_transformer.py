"""Marian and BART against `transformers`, the Transformer of the paper against `torch.nn`."""

import keras
import numpy as np
import pytest

from lingxi.zoo import Transformer, TransformerConfig
from tests.parity.models import compare_gradients, needs_jax, run_on_jax

pytestmark = [
    pytest.mark.parity,
    # Keras warns of a softmax over one key, which is what sequences of length 1 have.
    pytest.mark.filterwarnings("ignore:You are using a softmax"),
]

numpy = keras.ops.convert_to_numpy
_SIZES = {
    "vocab_size": 101,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 24,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "forced_eos_token_id": 2,
    "decoder_start_token_id": 1,
}
_ODD = {
    "vocab_size": 97,
    "d_model": 36,
    "encoder_layers": 3,
    "decoder_layers": 1,
    "encoder_attention_heads": 3,
    "decoder_attention_heads": 6,
    "encoder_ffn_dim": 71,
    "decoder_ffn_dim": 53,
    "max_position_embeddings": 25,
}
_ONE_HEAD = {"encoder_attention_heads": 1, "decoder_attention_heads": 1}
_DEEP = {
    "encoder_layers": 1,
    "decoder_layers": 7,
    "encoder_attention_heads": 32,
    "decoder_attention_heads": 16,
}
_TWO_VOCABULARIES = {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 89}
CASES = {
    # name: (config class, model class, sizes)
    "marian": ("MarianConfig", "MarianMTModel", {"scale_embedding": True}),
    "marian, odd sizes": (
        "MarianConfig",
        "MarianMTModel",
        {**_ODD, "scale_embedding": True, "activation_function": "swish"},
    ),
    "marian, one head": (
        "MarianConfig",
        "MarianMTModel",
        {**_ONE_HEAD, "activation_function": "relu"},
    ),
    "marian, deep": ("MarianConfig", "MarianMTModel", {**_DEEP, "scale_embedding": True}),
    "marian, two vocabularies": ("MarianConfig", "MarianMTModel", _TWO_VOCABULARIES),
    "marian, nothing tied": (
        "MarianConfig",
        "MarianMTModel",
        {**_TWO_VOCABULARIES, "tie_word_embeddings": False, "scale_embedding": True},
    ),
    "bart": ("BartConfig", "BartForConditionalGeneration", {}),
    "bart, odd sizes": ("BartConfig", "BartForConditionalGeneration", _ODD),
    "bart, one head": (
        "BartConfig",
        "BartForConditionalGeneration",
        {**_ONE_HEAD, "scale_embedding": True, "activation_function": "gelu_new"},
    ),
    "bart, deep": (
        "BartConfig",
        "BartForConditionalGeneration",
        {**_DEEP, "activation_function": "relu"},
    ),
    "bart, nothing tied": (
        "BartConfig",
        "BartForConditionalGeneration",
        {"tie_word_embeddings": False},
    ),
}


def reference_model(transformers, name):
    """A model of the reference whose every weight is random, except its fixed sinusoids."""
    import torch

    torch.manual_seed(0)
    config_class, model_class, sizes = CASES[name]
    config = getattr(transformers, config_class)(**_SIZES | sizes)
    model = getattr(transformers, model_class)(config).eval()
    with torch.no_grad():
        for parameter in (*model.parameters(), model.final_logits_bias):
            if parameter.requires_grad or parameter is model.final_logits_bias:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def inputs_for(config, source, target, padding="right", rows=3):
    """Inputs of which every row but the first is padded; without the padding's own id."""
    random = np.random.default_rng(source + target)
    vocabularies = {"encoder": config.vocab_size, "decoder": config.target_vocab_size}
    inputs = {}
    for (side, vocabulary), length in zip(vocabularies.items(), (source, target), strict=True):
        real = np.maximum(1, length - np.arange(rows) * max(1, length // 3))
        mask = np.arange(length) < real[:, np.newaxis]
        ids = random.integers(2, vocabulary, (rows, length)).astype("int32")
        inputs[f"{side}_token_ids"] = ids
        inputs[f"{side}_padding_mask"] = (mask if padding == "right" else mask[:, ::-1]).copy()
    return inputs


def forward(reference, inputs, **kwargs):
    import torch

    tensors = {name: torch.tensor(value).long() for name, value in inputs.items()}
    return reference(
        input_ids=tensors["encoder_token_ids"],
        attention_mask=tensors["encoder_padding_mask"],
        decoder_input_ids=tensors["decoder_token_ids"],
        decoder_attention_mask=tensors["decoder_padding_mask"],
        use_cache=False,
        **kwargs,
    )


def run_reference(reference, inputs):
    """What `Transformer` gives with `return_hidden_states`, as NumPy arrays."""
    import torch

    with torch.no_grad():
        outputs = forward(reference, inputs, output_hidden_states=True)
    return {
        "encoder_hidden_states": [state.numpy() for state in outputs.encoder_hidden_states],
        "hidden_states": [state.numpy() for state in outputs.decoder_hidden_states],
        "logits": outputs.logits.numpy(),
    }


def compare(ours, theirs, inputs, assert_near, label=""):
    masks = {
        "encoder_hidden_states": inputs["encoder_padding_mask"],
        "hidden_states": inputs["decoder_padding_mask"],
    }
    for name, mask in masks.items():
        assert len(ours[name]) == len(theirs[name])
        for mine, other in zip(ours[name], theirs[name], strict=True):
            assert_near(f"{name}{label}", numpy(mine)[mask], other[mask])
    mask = inputs["decoder_padding_mask"]
    assert_near(f"logits{label}", numpy(ours["logits"])[mask], theirs["logits"][mask])


def trained_parameters(reference):
    """Its number of parameters, as lingxi counts: with the bias, without fixed and unused ones."""
    count = sum(p.numel() for p in reference.parameters() if p.requires_grad)
    shared = getattr(reference.model, "shared", None)
    if shared is not None and not reference.config.tie_word_embeddings:
        count -= shared.weight.numel()
    return count + reference.final_logits_bias.numel()


@pytest.mark.parametrize("name", CASES)
def test_random_weights(name, transformers, tmp_path, assert_near):
    reference = reference_model(transformers, name)
    reference.save_pretrained(tmp_path)
    model = Transformer.from_preset(tmp_path)
    assert model.count_params() == model.config.num_parameters == trained_parameters(reference)
    longest = model.config.max_length
    for source, target in ((1, 1), (7, 2), (2, 7), (longest, longest)):
        for padding in ("right", "left"):
            inputs = inputs_for(model.config, source, target, padding)
            ours = model(inputs, return_hidden_states=True)
            compare(ours, run_reference(reference, inputs), inputs, assert_near)


def test_the_reference_without_masks(transformers, tmp_path, assert_near):
    import torch

    reference = reference_model(transformers, "bart")
    reference.save_pretrained(tmp_path)
    model = Transformer.from_preset(tmp_path)
    inputs = inputs_for(model.config, 5, 9)
    source, target = inputs["encoder_token_ids"], inputs["decoder_token_ids"]
    with torch.no_grad():
        theirs = reference(torch.tensor(source).long(), decoder_input_ids=torch.tensor(target))
    ours = model({"encoder_token_ids": source, "decoder_token_ids": target})
    assert_near("logits", numpy(ours["logits"]), theirs.logits.numpy())


@pytest.mark.parametrize("name", CASES)
def test_the_reference_loads_what_lingxi_saves(name, transformers, tmp_path, assert_near):
    reference_model(transformers, name).save_pretrained(tmp_path / "theirs")
    model = Transformer.from_preset(tmp_path / "theirs")
    model.save_preset(tmp_path / "ours")
    reference = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "ours").eval()
    inputs = inputs_for(model.config, 9, 7, "left")
    ours = model(inputs, return_hidden_states=True)
    compare(ours, run_reference(reference, inputs), inputs, assert_near)


def test_the_base_model_without_a_head_loads(transformers, tmp_path, assert_near):
    reference = reference_model(transformers, "bart, odd sizes")
    reference.model.save_pretrained(tmp_path)
    model = Transformer.from_preset(tmp_path)
    assert not model.config.logits_bias
    reference.final_logits_bias.zero_()
    inputs = inputs_for(model.config, 9, 7)
    ours = model(inputs, return_hidden_states=True)
    compare(ours, run_reference(reference, inputs), inputs, assert_near)


def test_sinusoids_of_marian(transformers, tmp_path, assert_near):
    """Theirs are a table, which old files hold; ours are computed."""
    from safetensors.numpy import load_file, save_file

    sizes = {**_SIZES, "max_position_embeddings": 1024, "d_model": 64}
    reference = transformers.MarianMTModel(transformers.MarianConfig(**sizes))
    table = reference.model.encoder.embed_positions.weight.numpy()
    reference.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.encoder.embed_positions.weight"] = table
    tensors["model.decoder.embed_positions.weight"] = table
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model = Transformer.from_preset(tmp_path)
    got = model.encoder.position_embedding(np.zeros((1, 1024), "int32"))
    assert_near("positions", numpy(got)[0], table, 2e-6)


@pytest.mark.parametrize("name", ["marian, odd sizes", "bart, odd sizes"])
def test_gradients(name, transformers, tmp_path, assert_near):
    import tensorflow as tf
    import torch

    reference = reference_model(transformers, name)
    reference.final_logits_bias.requires_grad_()
    reference.save_pretrained(tmp_path)
    model = Transformer.from_preset(tmp_path)
    inputs = inputs_for(model.config, 8, 9)
    weights = np.random.default_rng(1).normal(size=(3, 9, model.config.vocab_size))
    weights = (weights * inputs["decoder_padding_mask"][..., np.newaxis]).astype("float32")
    (forward(reference, inputs).logits * torch.tensor(weights)).mean().backward()
    wanted = {n: p.grad.numpy() for n, p in reference.named_parameters() if p.grad is not None}
    wanted["final_logits_bias"] = reference.final_logits_bias.grad.numpy()

    def loss():
        return tf.reduce_mean(model(inputs)["logits"] * weights)

    compare_gradients(model, loss, wanted, assert_near, no_influence="k_proj.bias")


@pytest.mark.slow
@needs_jax
def test_hidden_states_and_logits_on_jax(transformers, tmp_path, assert_near):
    inputs, theirs = {}, {}
    for name in ("marian, odd sizes", "bart", "marian, nothing tied"):
        directory = tmp_path / name
        reference = reference_model(transformers, name)
        reference.save_pretrained(directory)
        config = Transformer.from_preset(directory, load_weights=False).config
        inputs[directory] = inputs_for(config, 9, 7, "left")
        theirs[directory] = run_reference(reference, inputs[directory])
    for directory, ours in run_on_jax("Transformer", inputs).items():
        compare(ours, theirs[directory], inputs[directory], assert_near, " on JAX")


# The Transformer of the paper


@pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])
@pytest.mark.parametrize("heads", [1, 3, 12])
def test_the_transformer_is_that_of_torch(norm_first, heads, transformers, assert_near):
    import torch

    config = TransformerConfig(
        vocab_size=29,
        hidden_dim=24,
        num_encoder_layers=2,
        num_decoder_layers=3,
        num_heads=heads,
        intermediate_dim=31,
        norm_first=norm_first,
    )
    model = Transformer(config)
    generator = np.random.default_rng(heads)
    for weight in model.trainable_weights:
        center = 1.0 if weight.name == "gamma" else 0.0
        weight.assign(generator.normal(center, 0.2, weight.shape))

    reference = torch.nn.Transformer(
        24, heads, 2, 3, 31, dropout=0.0, norm_first=norm_first, batch_first=True
    ).eval()
    if not norm_first:
        reference.encoder.norm = reference.decoder.norm = None  # the paper has none there
    reference.load_state_dict(torch_state(model))

    inputs = inputs_for(config, 9, 7, "left")
    table = numpy(model.token_embedding.embeddings)
    embedded, missing = {}, {}
    for side in ("encoder", "decoder"):
        ids = inputs[f"{side}_token_ids"]
        x = table[ids] * np.sqrt(24) + sinusoids(ids.shape[1], 24)
        embedded[side] = torch.tensor(x.astype("float32"))
        missing[side] = torch.tensor(~inputs[f"{side}_padding_mask"])
    theirs = reference(  # with gradients: without, a fast path of torch takes padding for its own
        embedded["encoder"],
        embedded["decoder"],
        tgt_mask=torch.triu(torch.ones(7, 7, dtype=torch.bool), diagonal=1),
        src_key_padding_mask=missing["encoder"],
        tgt_key_padding_mask=missing["decoder"],
        memory_key_padding_mask=missing["encoder"],
    )
    theirs = theirs.detach().numpy()
    ours, mask = model(inputs), inputs["decoder_padding_mask"]
    assert_near("output", numpy(ours["sequence_output"])[mask], theirs[mask])
    assert_near("logits", numpy(ours["logits"])[mask], (theirs @ table.T)[mask])


def sinusoids(length, width):
    """Vaswani et al. 2017, section 3.5."""
    table = np.empty((length, width))
    angle = np.arange(length)[:, np.newaxis] / 10000 ** (np.arange(0, width, 2) / width)
    table[:, 0::2], table[:, 1::2] = np.sin(angle), np.cos(angle)
    return table


def torch_state(model):
    """The weights of `model` by the names of `torch.nn.Transformer`."""
    import torch

    state = {}

    def put(name, layer):
        if hasattr(layer, "gamma"):
            state[f"{name}.weight"], state[f"{name}.bias"] = layer.gamma, layer.beta
        else:
            state[f"{name}.weight"] = np.transpose(layer.kernel)
            state[f"{name}.bias"] = layer.bias

    def put_attention(name, layer):
        if layer.cross:
            kernels = [layer.query_dense.kernel, layer.key_value_dense.kernel]
            biases = [layer.query_dense.bias, layer.key_value_dense.bias]
        else:
            kernels = [layer.query_key_value_dense.kernel]
            biases = [layer.query_key_value_dense.bias]
        state[f"{name}.in_proj_weight"] = np.concatenate(kernels, -1).T
        state[f"{name}.in_proj_bias"] = np.concatenate(biases)
        put(f"{name}.out_proj", layer.output_dense)

    for side, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        for index, block in enumerate(stack.blocks):
            name = f"{side}.layers.{index}"
            put_attention(f"{name}.self_attn", block.attention)
            norms = [block.attention_norm, block.feed_forward_norm]
            if block.cross:
                put_attention(f"{name}.multihead_attn", block.cross_attention)
                norms.insert(1, block.cross_attention_norm)
            for number, layer in enumerate(norms, 1):
                put(f"{name}.norm{number}", layer)
            put(f"{name}.linear1", block.feed_forward.intermediate_dense)
            put(f"{name}.linear2", block.feed_forward.output_dense)
        if stack.final_norm is not None:
            put(f"{side}.norm", stack.final_norm)
    return {name: torch.tensor(np.array(value)) for name, value in state.items()}
