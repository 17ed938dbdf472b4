"""A SpanLanguageModel against `transformers`: the same tokens, logits, loss and spans."""

import keras
import numpy as np
import pytest

from lingxi.tasks import SpanLanguageModel
from lingxi.text import SentencePieceTokenizer
from lingxi.training import IGNORED
from lingxi.zoo import T5, T5Config

pytestmark = pytest.mark.parity

TEXTS = [
    "Paris is the <extra_id_0> of France",
    "The <extra_id_0> walks in <extra_id_1> park.",
    "<extra_id_0> rain",
]
TINY = {
    "hidden_dim": 32,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "num_heads": 4,
    "head_dim": 8,
    "intermediate_dim": 48,
}


@pytest.fixture(scope="module")
def task(data_path):
    keras.utils.set_random_seed(1)
    tokenizer = SentencePieceTokenizer(
        data_path("vocab/t5/spiece.model"), max_length=64, num_sentinels=100
    )
    return SpanLanguageModel(T5(T5Config(**TINY)), tokenizer, decoding={"max_tokens": 8})


@pytest.fixture(scope="module")
def reference(task, transformers, tmp_path_factory):
    """Model and tokenizer of `transformers` from the saved directory."""
    directory = tmp_path_factory.mktemp("spans")
    task.save_preset(directory)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(directory).eval()
    assert type(model) is transformers.T5ForConditionalGeneration
    return model, transformers.AutoTokenizer.from_pretrained(directory)


def test_typed_sentinels_are_the_references_tokens(task, reference):
    _, tokenizer = reference
    inputs, _ = task.encode(TEXTS)
    assert inputs["token_ids"].to_list() == tokenizer(TEXTS)["input_ids"]


def test_logits_and_loss_of_a_pretraining_batch(task, reference, assert_near):
    import torch

    model, _ = reference
    (inputs, labels), *_ = task.span_batches(["the rain in Spain falls on the plain. " * 9])
    inputs = {name: values.numpy() for name, values in inputs.items()}
    labels = labels.numpy()
    assert IGNORED == -100, "the reference ignores it too"
    with torch.no_grad():
        theirs = model(
            input_ids=torch.tensor(inputs["encoder_token_ids"]).long(),
            attention_mask=torch.tensor(inputs["encoder_padding_mask"]).long(),
            labels=torch.tensor(labels).long(),  # of which it makes the decoder's inputs
        )
    ours = task.predict(inputs, verbose=0)
    real = labels != IGNORED
    assert_near("logits", ours[real], theirs.logits.numpy()[real])
    loss = task.default_loss()(labels, ours)
    assert_near("loss", np.array(loss), theirs.loss.numpy())


def test_filled_spans_are_what_the_reference_generates(task, reference):
    model, tokenizer = reference
    answers = task.fill(TEXTS)
    for text, answer in zip(TEXTS, answers, strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        (made,) = model.generate(**inputs, max_new_tokens=8, do_sample=False)
        wanted = made.tolist()[1:]
        (row,) = task.make(_one(task, text), max_tokens=8, verbose=False)
        assert list(row[0].token_ids) == wanted
        assert len(answer.spans) == text.count("<extra_id_")


def _one(task, text):
    from lingxi.tasks.generation import bucketed

    inputs, _ = task.encode([text])
    return bucketed(inputs, task.tokenizer.pad_id)
