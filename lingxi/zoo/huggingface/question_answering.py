"""The heads of Hugging Face's question answerers: one layer, from each token to two logits."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class QuestionAnswererLayout:
    """The head of one `model_type`.

    Attributes:
        architecture: the class in `transformers`.
        head: name of the layer; its rows are the logits of start and end.
        dropout: the key in config.json that holds the rate before it; None where there is none.
    """

    architecture: str
    head: str = "qa_outputs"
    dropout: str | None = None


QUESTION_ANSWERERS = {
    "bert": QuestionAnswererLayout("BertForQuestionAnswering"),
    "roberta": QuestionAnswererLayout("RobertaForQuestionAnswering"),
    "distilbert": QuestionAnswererLayout("DistilBertForQuestionAnswering", dropout="qa_dropout"),
    "electra": QuestionAnswererLayout("ElectraForQuestionAnswering"),
}
