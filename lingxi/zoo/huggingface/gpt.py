"""GPT-1, GPT-2 and GPT-Neo, as Hugging Face writes them."""

from lingxi.zoo.checkpoint import Tensors, dense, norm
from lingxi.zoo.huggingface.layout import ACTIVATIONS, Layout


def _gpt1_tensors(model):
    table = [
        Tensors(model.token_embedding.embeddings, ("transformer.tokens_embed.weight",)),
        Tensors(model.position_embedding.embeddings, ("transformer.positions_embed.weight",)),
    ]
    for index, block in enumerate(model.blocks):
        table += _fused_block(block, f"transformer.h.{index}")
    return table


def _gpt2_tensors(model):
    table = _embeddings(model)
    for index, block in enumerate(model.blocks):
        table += _fused_block(block, f"transformer.h.{index}")
    return table + norm(model.final_norm, "transformer.ln_f")


def _gpt_neo_tensors(model):
    table = _embeddings(model)
    for index, block in enumerate(model.blocks):
        layer = f"transformer.h.{index}"
        query_key_value = [f"{layer}.attn.attention.{n}_proj" for n in "qkv"]
        table += dense(block.attention.query_key_value_dense, *query_key_value)
        table += dense(block.attention.output_dense, f"{layer}.attn.attention.out_proj")
        table += dense(block.feed_forward.intermediate_dense, f"{layer}.mlp.c_fc")
        table += dense(block.feed_forward.output_dense, f"{layer}.mlp.c_proj")
        table += norm(block.attention_norm, f"{layer}.ln_1")
        table += norm(block.feed_forward_norm, f"{layer}.ln_2")
    return table + norm(model.final_norm, "transformer.ln_f")


def _embeddings(model):
    return [
        Tensors(model.token_embedding.embeddings, ("transformer.wte.weight",)),
        Tensors(model.position_embedding.embeddings, ("transformer.wpe.weight",)),
    ]


def _fused_block(block, layer):
    """GPT-1 and GPT-2 fuse query, key and value, and store kernels `[in, out]`."""
    return [
        *dense(block.attention.query_key_value_dense, f"{layer}.attn.c_attn", transpose=False),
        *dense(block.attention.output_dense, f"{layer}.attn.c_proj", transpose=False),
        *dense(block.feed_forward.intermediate_dense, f"{layer}.mlp.c_fc", transpose=False),
        *dense(block.feed_forward.output_dense, f"{layer}.mlp.c_proj", transpose=False),
        *norm(block.attention_norm, f"{layer}.ln_1"),
        *norm(block.feed_forward_norm, f"{layer}.ln_2"),
    ]


# Buffers of old files, and heads; the language model's head is the embedding table itself.
_IGNORED = (
    "h.*.attn.bias",
    "h.*.attn.masked_bias",
    "h.*.attn.attention.bias",
    "h.*.attn.attention.masked_bias",
    "lm_head.weight",
    "score.*",
    "classifier.*",
    "qa_outputs.*",
    "multiple_choice_head.*",
)
_ACCEPTED = {"tie_word_embeddings": True}
_PLAIN = {
    "head_dim": None,
    "attention_windows": (None,),
    "scale_scores": True,
    "query_key_value_bias": True,
}


def _write_gpt1(config, contents):
    if config.intermediate_dim != 4 * config.hidden_dim:
        raise ValueError(
            f"GPT-1 has intermediate_dim = 4 * hidden_dim = {4 * config.hidden_dim}, "
            f"but this model has {config.intermediate_dim}"
        )
    return contents


def _read_neo(contents, fields):
    kinds = [
        kind
        for pattern, count in contents.get("attention_types", [[["global", "local"], 12]])
        for kind in pattern * count
    ]
    window = contents.get("window_size", 256)
    windows = tuple({"global": None, "local": window}[kind] for kind in kinds)
    return {**fields, "attention_windows": windows}


def _write_neo(config, contents):
    windows = config.windows
    sizes = set(windows) - {None}
    if len(sizes) > 1:
        raise ValueError(
            f"GPT-Neo has one window size for all layers, but this model has {sorted(sizes)}"
        )
    kinds = ["global" if window is None else "local" for window in windows]
    return {
        **contents,
        "attention_types": [[[kind], 1] for kind in kinds],
        "attention_layers": kinds,
        "window_size": sizes.pop() if sizes else 256,
    }


_GPT2_FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_dim": "n_embd",
    "num_layers": "n_layer",
    "num_heads": "n_head",
    "max_length": "n_positions",
    "dropout": "resid_pdrop",
    "embedding_dropout": "embd_pdrop",
    "attention_dropout": "attn_pdrop",
    "norm_epsilon": "layer_norm_epsilon",
    "initializer_range": "initializer_range",
}

LAYOUTS = {
    "openai-gpt": Layout(
        model_type="openai-gpt",
        architecture="OpenAIGPTLMHeadModel",
        tensors=_gpt1_tensors,
        fields=_GPT2_FIELDS,
        activation="afn",
        activations={"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"},
        constants={**_PLAIN, "norm_first": False, "vocab_size": 40478, "max_length": 512},
        accepted=_ACCEPTED,
        prefix="transformer.",
        ignored=_IGNORED,
        write=_write_gpt1,
    ),
    "gpt2": Layout(
        model_type="gpt2",
        architecture="GPT2LMHeadModel",
        tensors=_gpt2_tensors,
        fields={**_GPT2_FIELDS, "intermediate_dim": "n_inner"},
        activation="activation_function",
        activations=ACTIVATIONS,
        constants={**_PLAIN, "norm_first": True},
        accepted={
            **_ACCEPTED,
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
            "add_cross_attention": False,
        },
        prefix="transformer.",
        ignored=_IGNORED,
    ),
    "gpt_neo": Layout(
        model_type="gpt_neo",
        architecture="GPTNeoForCausalLM",
        tensors=_gpt_neo_tensors,
        fields={
            "vocab_size": "vocab_size",
            "hidden_dim": "hidden_size",
            "num_layers": "num_layers",
            "num_heads": "num_heads",
            "intermediate_dim": "intermediate_size",
            "max_length": "max_position_embeddings",
            "dropout": "resid_dropout",
            "embedding_dropout": "embed_dropout",
            "attention_dropout": "attention_dropout",
            "norm_epsilon": "layer_norm_epsilon",
            "initializer_range": "initializer_range",
        },
        activation="activation_function",
        constants={
            "hidden_dim": 2048,
            "num_layers": 24,
            "num_heads": 16,
            "max_length": 2048,
            "dropout": 0.0,
            "embedding_dropout": 0.0,
            "attention_dropout": 0.0,
            "head_dim": None,
            "norm_first": True,
            "scale_scores": False,
            "query_key_value_bias": False,
        },
        accepted=_ACCEPTED,
        prefix="transformer.",
        ignored=_IGNORED,
        read=_read_neo,
        write=_write_neo,
    ),
}
