"""Marian and BART, as Hugging Face writes them."""

from lingxi.zoo.checkpoint import Tensors, dense, norm
from lingxi.zoo.huggingface.layout import Layout


def _tensors(model):
    table = _token_tensors(model)
    for side, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        if model.config.positions == "learned":
            positions = stack.position_embedding.embeddings
            table.append(Tensors(positions, (f"model.{side}.embed_positions.weight",)))
        if stack.embedding_norm is not None:
            table += norm(stack.embedding_norm, f"model.{side}.layernorm_embedding")
        for index, block in enumerate(stack.blocks):
            table += _block_tensors(block, f"model.{side}.layers.{index}")
    return table


def _token_tensors(model):
    config = model.config
    shared, encoder, decoder, head = (
        "model.shared.weight",
        "model.encoder.embed_tokens.weight",
        "model.decoder.embed_tokens.weight",
        "lm_head.weight",
    )
    table = model.token_embedding.embeddings
    decoder_table = model.decoder_token_embedding.embeddings
    tied = (head,) if config.tie_head else ()
    if config.share_embeddings:
        tensors = [Tensors(table, (shared,), aliases=(encoder, decoder, *tied))]
    else:
        tensors = [Tensors(table, (encoder,)), Tensors(decoder_table, (decoder,), aliases=tied)]
    if not config.tie_head:
        tensors += dense(model.head, "lm_head")
    if config.logits_bias:
        tensors.append(Tensors(model.logits_bias, ("final_logits_bias",)))
    return tensors


def _block_tensors(block, layer):
    attention, forward = block.attention, block.feed_forward
    query_key_value = [f"{layer}.self_attn.{n}_proj" for n in "qkv"]
    table = dense(attention.query_key_value_dense, *query_key_value)
    table += dense(attention.output_dense, f"{layer}.self_attn.out_proj")
    table += norm(block.attention_norm, f"{layer}.self_attn_layer_norm")
    if block.cross:
        attention, name = block.cross_attention, f"{layer}.encoder_attn"
        table += dense(attention.query_dense, f"{name}.q_proj")
        table += dense(attention.key_value_dense, f"{name}.k_proj", f"{name}.v_proj")
        table += dense(attention.output_dense, f"{name}.out_proj")
        table += norm(block.cross_attention_norm, f"{name}_layer_norm")
    table += dense(forward.intermediate_dense, f"{layer}.fc1")
    table += dense(forward.output_dense, f"{layer}.fc2")
    table += norm(block.feed_forward_norm, f"{layer}.final_layer_norm")
    return table


def _read(contents, fields):
    """Without `tie_word_embeddings` no table is shared; with sharing there is one vocabulary."""
    tied = contents.get("tie_word_embeddings", True)
    shared = tied and contents.get("share_encoder_decoder_embeddings", True)
    if shared:
        fields = {**fields, "decoder_vocab_size": None}
    return {
        "activation": "gelu",
        **fields,
        "share_embeddings": shared,
        "tie_head": tied,
        "logits_bias": True,
    }


def _write(config, contents):
    contents = {
        **contents,
        "decoder_attention_heads": config.decoder_num_heads or config.num_heads,
        "decoder_ffn_dim": config.decoder_intermediate_dim or config.intermediate_dim,
        "forced_eos_token_id": config.eos_id,
        "tie_word_embeddings": config.tie_head,
    }
    if config.initializer_range is None:
        del contents["init_std"]
    return contents


def _write_marian(config, contents):
    if config.share_embeddings and not config.tie_head:
        raise ValueError("Marian cannot share its embeddings without tying its head to them")
    return {
        **_write(config, contents),
        "decoder_vocab_size": config.target_vocab_size,
        "share_encoder_decoder_embeddings": config.share_embeddings,
    }


def _write_bart(config, contents):
    if config.share_embeddings != config.tie_head:
        raise ValueError(
            "BART shares its embeddings and ties its head to them, or neither, but this model has "
            f"share_embeddings={config.share_embeddings} and tie_head={config.tie_head}"
        )
    return _write(config, contents)


_FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_dim": "d_model",
    "num_encoder_layers": "encoder_layers",
    "num_decoder_layers": "decoder_layers",
    "num_heads": "encoder_attention_heads",
    "decoder_num_heads": "decoder_attention_heads",
    "intermediate_dim": "encoder_ffn_dim",
    "decoder_intermediate_dim": "decoder_ffn_dim",
    "max_length": "max_position_embeddings",
    "scale_embeddings": "scale_embedding",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "pad_id": "pad_token_id",
    "bos_id": "bos_token_id",
    "eos_id": "eos_token_id",
    "decoder_start_id": "decoder_start_token_id",
    "initializer_range": "init_std",
}
_CONSTANTS = {
    "hidden_dim": 1024,
    "num_encoder_layers": 12,
    "num_decoder_layers": 12,
    "num_heads": 16,
    "decoder_num_heads": 16,
    "intermediate_dim": 4096,
    "decoder_intermediate_dim": 4096,
    "scale_embeddings": False,
    "initializer_range": 0.02,
    "norm_first": False,
    "norm_epsilon": 1e-5,
}
_ACCEPTED = {"is_encoder_decoder": True}
_IGNORED = (
    "shared.weight",  # which Hugging Face has, unused, even where nothing is shared
    "encoder.version",
    "decoder.version",
    "classification_head.*",
    "qa_outputs.*",
)

LAYOUTS = {
    "marian": Layout(
        model_type="marian",
        architecture="MarianMTModel",
        tensors=_tensors,
        fields={**_FIELDS, "decoder_vocab_size": "decoder_vocab_size"},
        activation="activation_function",
        constants={
            **_CONSTANTS,
            "vocab_size": 58101,
            "positions": "halves",
            "position_offset": 0,
            "embedding_norm": False,
            "pad_id": 58100,
            "bos_id": None,
            "eos_id": 0,
            "decoder_start_id": 58100,
        },
        accepted=_ACCEPTED,
        prefix="model.",
        ignored=(*_IGNORED, "encoder.embed_positions.weight", "decoder.embed_positions.weight"),
        read=_read,
        write=_write_marian,
    ),
    "bart": Layout(
        model_type="bart",
        architecture="BartForConditionalGeneration",
        tensors=_tensors,
        fields=_FIELDS,
        activation="activation_function",
        constants={
            **_CONSTANTS,
            "vocab_size": 50265,
            "decoder_vocab_size": None,
            "positions": "learned",
            "position_offset": 2,
            "embedding_norm": True,
            "pad_id": 1,
            "bos_id": 0,
            "eos_id": 2,
            "decoder_start_id": 2,
        },
        accepted=_ACCEPTED,
        prefix="model.",
        ignored=_IGNORED,
        read=_read,
        write=_write_bart,
    ),
}
