"""BERT, RoBERTa, DistilBERT and the encoder of ELECTRA, as Hugging Face writes them."""

from lingxi.zoo.checkpoint import Tensors, dense, norm
from lingxi.zoo.huggingface.layout import Layout

_FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_dim": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_dim": "intermediate_size",
    "max_length": "max_position_embeddings",
    "num_segments": "type_vocab_size",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "norm_epsilon": "layer_norm_eps",
    "initializer_range": "initializer_range",
    "pad_id": "pad_token_id",
}
_ACCEPTED = {"position_embedding_type": "absolute", "is_decoder": False}
_HEADS = (
    "crf.*",
    "embeddings.position_ids",
    "cls.*",
    "lm_head.*",
    "classifier.*",
    "pre_classifier.*",
    "qa_outputs.*",
    "vocab_*",
    "discriminator_predictions.*",
    "generator_predictions.*",
    "generator_lm_head.*",
)


def _bert_tensors(model):
    table = [
        Tensors(model.token_embedding.embeddings, ("embeddings.word_embeddings.weight",)),
        Tensors(model.position_embedding.embeddings, ("embeddings.position_embeddings.weight",)),
        Tensors(model.segment_embedding.embeddings, ("embeddings.token_type_embeddings.weight",)),
    ]
    table += norm(model.embedding_norm, "embeddings.LayerNorm")
    if model.embedding_projection is not None:
        table += dense(model.embedding_projection, "embeddings_project")
    for index, block in enumerate(model.blocks):
        layer = f"encoder.layer.{index}"
        attention, forward = block.attention, block.feed_forward
        query_key_value = [f"{layer}.attention.self.{n}" for n in ("query", "key", "value")]
        table += dense(attention.query_key_value_dense, *query_key_value)
        table += dense(attention.output_dense, f"{layer}.attention.output.dense")
        table += norm(block.attention_norm, f"{layer}.attention.output.LayerNorm")
        table += dense(forward.intermediate_dense, f"{layer}.intermediate.dense")
        table += dense(forward.output_dense, f"{layer}.output.dense")
        table += norm(block.feed_forward_norm, f"{layer}.output.LayerNorm")
    if model.pooler is not None:
        table += dense(model.pooler.dense, "pooler.dense")
    return table


def _distilbert_tensors(model):
    table = [
        Tensors(model.token_embedding.embeddings, ("embeddings.word_embeddings.weight",)),
        Tensors(model.position_embedding.embeddings, ("embeddings.position_embeddings.weight",)),
    ]
    table += norm(model.embedding_norm, "embeddings.LayerNorm")
    for index, block in enumerate(model.blocks):
        layer = f"transformer.layer.{index}"
        attention, forward = block.attention, block.feed_forward
        query_key_value = [f"{layer}.attention.{n}_lin" for n in "qkv"]
        table += dense(attention.query_key_value_dense, *query_key_value)
        table += dense(attention.output_dense, f"{layer}.attention.out_lin")
        table += norm(block.attention_norm, f"{layer}.sa_layer_norm")
        table += dense(forward.intermediate_dense, f"{layer}.ffn.lin1")
        table += dense(forward.output_dense, f"{layer}.ffn.lin2")
        table += norm(block.feed_forward_norm, f"{layer}.output_layer_norm")
    return table


def _read_roberta(contents, fields):
    """RoBERTa counts positions from `pad_id + 1` and counts those rows into its maximum."""
    offset = fields.get("pad_id", 1) + 1
    return {
        **fields,
        "position_offset": offset,
        "max_length": fields.get("max_length", 514) - offset,
    }


def _write_roberta(config, contents):
    if config.position_offset != config.pad_id + 1:
        raise ValueError(
            f"RoBERTa counts positions from pad_id + 1 = {config.pad_id + 1}, "
            f"but this model has position_offset={config.position_offset}"
        )
    return {**contents, "max_position_embeddings": config.max_length + config.position_offset}


def _read_electra(contents, fields):
    return {**fields, "embedding_dim": fields.get("embedding_dim", 128)}


def _write_electra(config, contents):
    return {**contents, "embedding_size": config.embedding_dim or config.hidden_dim}


LAYOUTS = {
    "bert": Layout(
        model_type="bert",
        architecture="BertModel",
        tensors=_bert_tensors,
        fields=_FIELDS,
        activation="hidden_act",
        accepted=_ACCEPTED,
        constants={"position_offset": 0, "embedding_dim": None},
        prefix="bert.",
        ignored=_HEADS,
    ),
    "roberta": Layout(
        model_type="roberta",
        architecture="RobertaModel",
        tensors=_bert_tensors,
        fields=_FIELDS,
        activation="hidden_act",
        accepted=_ACCEPTED,
        constants={"embedding_dim": None, "pad_id": 1, "vocab_size": 50265},
        prefix="roberta.",
        ignored=_HEADS,
        read=_read_roberta,
        write=_write_roberta,
    ),
    "distilbert": Layout(
        model_type="distilbert",
        architecture="DistilBertModel",
        tensors=_distilbert_tensors,
        fields={
            "vocab_size": "vocab_size",
            "hidden_dim": "dim",
            "num_layers": "n_layers",
            "num_heads": "n_heads",
            "intermediate_dim": "hidden_dim",
            "max_length": "max_position_embeddings",
            "dropout": "dropout",
            "attention_dropout": "attention_dropout",
            "initializer_range": "initializer_range",
            "pad_id": "pad_token_id",
        },
        activation="activation",
        constants={
            "num_layers": 6,
            "num_segments": 0,
            "norm_epsilon": 1e-12,
            "pooler": False,
            "position_offset": 0,
            "embedding_dim": None,
        },
        prefix="distilbert.",
        ignored=_HEADS,
    ),
    "electra": Layout(
        model_type="electra",
        architecture="ElectraModel",
        tensors=_bert_tensors,
        fields={**_FIELDS, "embedding_dim": "embedding_size"},
        activation="hidden_act",
        accepted=_ACCEPTED,
        constants={
            "hidden_dim": 256,
            "num_heads": 4,
            "intermediate_dim": 1024,
            "pooler": False,
            "position_offset": 0,
        },
        prefix="electra.",
        ignored=_HEADS,
        read=_read_electra,
        write=_write_electra,
    ),
}
