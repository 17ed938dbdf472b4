"""T5, T5 1.1 and Flan-T5, as Hugging Face writes them."""

import numpy as np

from lingxi.zoo.checkpoint import Tensors, dense, norm
from lingxi.zoo.huggingface.layout import ACTIVATIONS, Layout
from lingxi.zoo.weight_files import stored_tensors

_EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
_HEAD = "lm_head.weight"
_PREFIX = "transformer."


def has_own_head(directory):
    """Whether the weights in `directory` have a head that differs from the embeddings.

    config.json does not tell: `transformers` 5 writes `"tie_word_embeddings": true` for every T5.
    """
    stored = {name.removeprefix(_PREFIX): each for name, each in stored_tensors(directory).items()}
    embeddings = next((stored[name] for name in _EMBEDDINGS if name in stored), None)
    if embeddings is None or _HEAD not in stored:
        return False
    return not np.array_equal(embeddings.read(), stored[_HEAD].read())


def _tensors(model):
    tied = (*_EMBEDDINGS, _HEAD) if model.head is None else _EMBEDDINGS
    table = [Tensors(model.token_embedding.embeddings, tied[:1], aliases=tied[1:])]
    if model.head is not None:
        table += dense(model.head, "lm_head")
    for index, block in enumerate(model.encoder_blocks):
        table += _self_attention(block, f"encoder.block.{index}.layer.0")
        table += _feed_forward(block, f"encoder.block.{index}.layer.1")
    for index, block in enumerate(model.decoder_blocks):
        table += _self_attention(block, f"decoder.block.{index}.layer.0")
        table += _cross_attention(block, f"decoder.block.{index}.layer.1")
        table += _feed_forward(block, f"decoder.block.{index}.layer.2")
    for stack, bias in (
        ("encoder", model.encoder_position_bias),
        ("decoder", model.decoder_position_bias),
    ):
        name = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        table.append(Tensors(bias.embeddings, (name,)))
    table += norm(model.encoder_norm, "encoder.final_layer_norm")
    return table + norm(model.decoder_norm, "decoder.final_layer_norm")


def _self_attention(block, layer):
    name = f"{layer}.SelfAttention"
    return [
        *dense(block.attention.query_key_value_dense, f"{name}.q", f"{name}.k", f"{name}.v"),
        *dense(block.attention.output_dense, f"{name}.o"),
        *norm(block.attention_norm, f"{layer}.layer_norm"),
    ]


def _cross_attention(block, layer):
    name = f"{layer}.EncDecAttention"
    return [
        *dense(block.cross_attention.query_dense, f"{name}.q"),
        *dense(block.cross_attention.key_value_dense, f"{name}.k", f"{name}.v"),
        *dense(block.cross_attention.output_dense, f"{name}.o"),
        *norm(block.cross_attention_norm, f"{layer}.layer_norm"),
    ]


def _feed_forward(block, layer):
    name = f"{layer}.DenseReluDense"
    products = (f"{name}.wi_0", f"{name}.wi_1") if block.gated else (f"{name}.wi",)
    return [
        *dense(block.feed_forward.intermediate_dense, *products),
        *dense(block.feed_forward.output_dense, f"{name}.wo"),
        *norm(block.feed_forward_norm, f"{layer}.layer_norm"),
    ]


def _read(contents, fields):
    """Without `dense_act_fn`, `feed_forward_proj` tells; its "gated-gelu" is the tanh one."""
    projection = contents.get("feed_forward_proj", "relu")
    gate, _, name = projection.rpartition("-")
    if projection == "gated-gelu":
        name = "gelu_new"
    if gate not in ("", "gated") or name not in ACTIVATIONS:
        raise ValueError(
            f"config.json has feed_forward_proj={projection!r}; "
            f"supported: {', '.join(ACTIVATIONS)}, each also after 'gated-'"
        )
    tied = contents.get("tie_word_embeddings") is not False
    return {
        "activation": ACTIVATIONS[name],
        "num_decoder_layers": fields["num_encoder_layers"],
        **fields,
        "gated": gate == "gated",
        "tie_head": tied,
        "scale_head": contents.get("scale_decoder_outputs", tied),
    }


def _write(config, contents):
    name = contents["dense_act_fn"]
    if config.gated:
        name = "gated-gelu" if name == "gelu_new" else f"gated-{name}"
    return {**contents, "feed_forward_proj": name, "is_gated_act": config.gated}


LAYOUTS = {
    "t5": Layout(
        model_type="t5",
        architecture="T5ForConditionalGeneration",
        tensors=_tensors,
        fields={
            "vocab_size": "vocab_size",
            "hidden_dim": "d_model",
            "num_encoder_layers": "num_layers",
            "num_decoder_layers": "num_decoder_layers",
            "num_heads": "num_heads",
            "head_dim": "d_kv",
            "intermediate_dim": "d_ff",
            "num_buckets": "relative_attention_num_buckets",
            "max_distance": "relative_attention_max_distance",
            "dropout": "dropout_rate",
            "norm_epsilon": "layer_norm_epsilon",
            "tie_head": "tie_word_embeddings",
            "scale_head": "scale_decoder_outputs",
            "pad_id": "pad_token_id",
            "eos_id": "eos_token_id",
            "decoder_start_id": "decoder_start_token_id",
        },
        activation="dense_act_fn",
        constants={"num_encoder_layers": 6},
        accepted={"is_encoder_decoder": True, "is_decoder": False},
        prefix=_PREFIX,
        ignored=(
            # A table of old files that no layer reads; and heads of other tasks.
            "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
            "classification_head.*",
            "classifier.*",
            "qa_outputs.*",
        ),
        read=_read,
        write=_write,
    ),
}
