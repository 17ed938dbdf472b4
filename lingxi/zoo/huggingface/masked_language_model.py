"""The heads of Hugging Face's masked language models: the same function, with other names.

A hidden layer as wide as the token embeddings, its activation and norm, then the product with the
embeddings, which the file does not hold twice, and a bias for each token.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class MaskedLanguageModelLayout:
    """The head of one `model_type`.

    Attributes:
        architecture: the class in `transformers`.
        hidden, norm, bias: names in the file.
        other_bias: another name that the file may have for the same bias.
        activation: of the hidden layer, None for that of the encoder.
        pair_architecture, next_sentence: class and name of the layer on the pooler's output, where
            there is such a head for the next sentence.
    """

    architecture: str
    hidden: str
    norm: str
    bias: str
    other_bias: str | None = None
    activation: str | None = None
    pair_architecture: str | None = None
    next_sentence: str | None = None


MASKED_LANGUAGE_MODELS = {
    "bert": MaskedLanguageModelLayout(
        architecture="BertForMaskedLM",
        hidden="cls.predictions.transform.dense",
        norm="cls.predictions.transform.LayerNorm",
        bias="cls.predictions.bias",
        other_bias="cls.predictions.decoder.bias",
        pair_architecture="BertForPreTraining",
        next_sentence="cls.seq_relationship",
    ),
    "roberta": MaskedLanguageModelLayout(
        architecture="RobertaForMaskedLM",
        hidden="lm_head.dense",
        norm="lm_head.layer_norm",
        bias="lm_head.bias",
        other_bias="lm_head.decoder.bias",
        activation="gelu",
    ),
    "distilbert": MaskedLanguageModelLayout(
        architecture="DistilBertForMaskedLM",
        hidden="vocab_transform",
        norm="vocab_layer_norm",
        bias="vocab_projector.bias",
    ),
    "electra": MaskedLanguageModelLayout(
        architecture="ElectraForMaskedLM",
        hidden="generator_predictions.dense",
        norm="generator_predictions.LayerNorm",
        bias="generator_lm_head.bias",
        activation="gelu",
    ),
}
