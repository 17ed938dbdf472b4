"""Question answerers exchanged with `transformers`: the same windows, logits and answers."""

import numpy as np
import pytest
import tensorflow as tf

from lingxi.tasks import QuestionAnswerer
from tests.parity import models
from tests.tasks.questions import tiny_answerer
from tests.tasks.roberta import tiny_tokenizer

pytestmark = pytest.mark.parity

CONTEXT = "the film was long and the story was very dull, but the music was lovely! " * 3
PAIRS = [("how was it", CONTEXT), ("who", "the river was cold"), ("what is warm", "tea")]
KIN = {
    "bert": {},
    "roberta": {"model_type": "roberta", "num_segments": 1, "position_offset": 2, "pooler": False},
    "distilbert": {"model_type": "distilbert", "num_segments": 0, "pooler": False},
    "electra": {"model_type": "electra", "embedding_dim": 16, "pooler": False},
}


@pytest.fixture(params=KIN)
def task(request, vocabulary):
    config = {"num_layers": 2, **KIN[request.param]}
    if request.param != "roberta":
        return tiny_answerer(vocabulary, config=config, overlap=8, max_answer=5)
    tokenizer = tiny_tokenizer()
    config |= {"vocab_size": tokenizer.vocab_size, "pad_id": tokenizer.pad_id}
    backbone = tiny_answerer(vocabulary, config=config).backbone
    return QuestionAnswerer(backbone, tokenizer, overlap=8, max_answer=5)


def windows(task):
    questions, contexts = zip(*PAIRS, strict=True)
    cut = task.reader().cut(tf.constant(questions), tf.constant(contexts))
    assert len(cut.rows) > len(PAIRS) + 1
    return cut


def their_outputs(transformers, directory, stride):
    """Windows of their tokenizer, and what their model makes of them."""
    import torch

    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(directory).eval()
    encoded = tokenizer(
        *map(list, zip(*PAIRS, strict=True)),
        truncation="only_second",
        max_length=32,
        stride=stride,
        padding=True,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_tensors="pt",
    )
    spans = [
        [span if encoded.sequence_ids(i)[j] == 1 else None for j, span in enumerate(row)]
        for i, row in enumerate(encoded.pop("offset_mapping").tolist())
    ]
    rows = encoded.pop("overflow_to_sample_mapping").tolist()
    with torch.no_grad():
        outputs = model(**encoded)
    logits = np.stack([outputs.start_logits.numpy(), outputs.end_logits.numpy()], axis=-1)
    return encoded["input_ids"].numpy(), encoded["attention_mask"].numpy(), spans, rows, logits


def test_the_reference_loads_what_lingxi_saves(task, transformers, tmp_path, assert_near):
    task.save_preset(tmp_path / "preset")
    cut = windows(task)
    ids, mask, spans, rows, theirs = their_outputs(transformers, tmp_path / "preset", 8)
    np.testing.assert_array_equal(cut.inputs["token_ids"], ids)
    np.testing.assert_array_equal(cut.inputs["padding_mask"], mask)
    np.testing.assert_array_equal(cut.rows, rows)
    real = mask.astype(bool)
    assert_near("logits", task(cut.inputs).numpy()[real], theirs[real])

    for number, ((question, context), answer) in enumerate(
        zip(PAIRS, task.answer(*map(list, zip(*PAIRS, strict=True))), strict=True)
    ):
        best = max(
            (float(theirs[row, i, 0] + theirs[row, j, 1]), spans[row][i][0], spans[row][j][1])
            for row in range(len(rows))
            if rows[row] == number
            for i in range(ids.shape[1])
            for j in range(i, min(i + 5, ids.shape[1]))
            if spans[row][i] and spans[row][j]
        )
        assert (answer.start, answer.end) == best[1:], question
        assert answer.text == context[answer.start : answer.end]


REFERENCES = {
    "bert": ("BertForQuestionAnswering", {}),
    "roberta": ("RobertaForQuestionAnswering", {"max_position_embeddings": 26}),
    "distilbert": (
        "DistilBertForQuestionAnswering",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "qa_dropout": 0.3},
    ),
    "electra": ("ElectraForQuestionAnswering", {"embedding_size": 16}),
}


@pytest.mark.parametrize("model_type", REFERENCES)
def test_lingxi_loads_what_the_reference_saves(
    model_type, transformers, vocabulary, tmp_path, assert_near
):
    import torch

    torch.manual_seed(0)
    head, sizes = REFERENCES[model_type]
    tokenizer = tiny_tokenizer() if model_type == "roberta" else tiny_answerer(vocabulary).tokenizer
    sizes = {**models.SIZES, **sizes, "vocab_size": tokenizer.vocab_size}
    config = transformers.AutoConfig.for_model(model_type, **sizes)
    model = getattr(transformers, head)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(tmp_path)
    task = QuestionAnswerer.from_preset(tmp_path, vocabulary=tokenizer)
    assert task.dropout == (0.3 if model_type == "distilbert" else 0)
    inputs = models.batch(config, 20)
    if model_type == "distilbert":
        theirs = {n: v for n, v in inputs.items() if n != "segment_ids"}
    else:
        theirs = inputs
    outputs = models.run_reference(model, theirs)
    wanted = np.stack([outputs.start_logits.numpy(), outputs.end_logits.numpy()], axis=-1)
    real = inputs["padding_mask"]
    assert_near("logits", task(inputs).numpy()[real], wanted[real])
