"""The heads of Hugging Face's sequence classifiers: the same function, with other names.

The first token's output goes through a hidden layer, then dropout, then a layer of logits.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class ClassifierLayout:
    """The head of one `model_type`.

    Attributes:
        architecture: the class in `transformers`.
        hidden, logits: names of the two layers in a file with the base model's prefix. BERT's
            hidden layer is the pooler of the base model.
        activation: of the hidden layer.
        drops_input: whether there is dropout before the hidden layer too.
        dropout: the key in config.json that holds the rate.
    """

    architecture: str
    hidden: str
    logits: str
    activation: str
    drops_input: bool = False
    dropout: str = "classifier_dropout"

    @property
    def uses_pooler(self):
        return self.hidden.endswith("pooler.dense")


CLASSIFIERS = {
    "bert": ClassifierLayout(
        architecture="BertForSequenceClassification",
        hidden="bert.pooler.dense",
        logits="classifier",
        activation="tanh",
    ),
    "roberta": ClassifierLayout(
        architecture="RobertaForSequenceClassification",
        hidden="classifier.dense",
        logits="classifier.out_proj",
        activation="tanh",
        drops_input=True,
    ),
    "distilbert": ClassifierLayout(
        architecture="DistilBertForSequenceClassification",
        hidden="pre_classifier",
        logits="classifier",
        activation="relu",
        dropout="seq_classif_dropout",
    ),
    "electra": ClassifierLayout(
        architecture="ElectraForSequenceClassification",
        hidden="classifier.dense",
        logits="classifier.out_proj",
        activation="gelu",
        drops_input=True,
    ),
}
