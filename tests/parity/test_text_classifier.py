"""Classifiers exchanged with `transformers`, in both directions: the same logits and labels."""

import numpy as np
import pytest

from lingxi.tasks import TextClassifier
from lingxi.text import ByteBpeTokenizer
from tests.parity import models
from tests.tasks.roberta import roberta_classifier, tokenizer_of

pytestmark = pytest.mark.parity

TEXTS = ["what a lovely stream", "the film is not very good", "", "rice, tea and warm food!"]


def reference_logits(transformers, directory, texts):
    import torch

    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(directory).eval()
    with torch.no_grad():
        logits = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits.numpy()
    return model.config, logits


@pytest.mark.parametrize("multi_label", [False, True], ids=["one label", "several labels"])
def test_the_reference_loads_what_lingxi_saves(
    transformers, tiny_classifier, tmp_path, assert_near, multi_label
):
    labels = ["negative", "neutral", "更好"]
    classifier = tiny_classifier(labels=labels, multi_label=multi_label, config={"num_layers": 2})
    classifier.save_preset(tmp_path / "preset")
    config, theirs = reference_logits(transformers, tmp_path / "preset", TEXTS)
    assert_near("logits", classifier.predict(TEXTS, verbose=0), theirs)
    assert [config.id2label[index] for index in range(3)] == labels
    wanted = "multi_label_classification" if multi_label else "single_label_classification"
    assert config.problem_type == wanted


@pytest.mark.parametrize("multi_label", [False, True], ids=["one label", "several labels"])
@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_lingxi_loads_what_the_reference_saves(
    transformers, vocabulary, tmp_path, assert_near, count, multi_label
):
    labels = [f"class {index}" for index in range(count)]
    models.save_reference(
        transformers,
        tmp_path,
        head="BertForSequenceClassification",
        vocab_size=len(vocabulary),
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        problem_type="multi_label_classification" if multi_label else None,
    )
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    tokenizer = transformers.BertTokenizer.from_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    classifier = TextClassifier.from_preset(tmp_path)
    assert classifier.labels == labels
    assert classifier.multi_label == multi_label
    _, theirs = reference_logits(transformers, tmp_path, TEXTS)
    assert_near("logits", classifier.predict(TEXTS, verbose=0), theirs)


def test_labels_that_the_reference_names_itself(transformers, vocabulary, tmp_path, assert_near):
    models.save_reference(
        transformers, tmp_path, "BertForSequenceClassification", vocab_size=len(vocabulary)
    )
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    classifier = TextClassifier.from_preset(tmp_path)
    assert classifier.labels == ["LABEL_0", "LABEL_1"]
    _, theirs = reference_logits(transformers, tmp_path, TEXTS)
    assert_near("logits", classifier.predict(TEXTS, verbose=0), theirs)


def test_answers_are_those_of_the_references_pipeline(transformers, tiny_classifier, tmp_path):
    classifier = tiny_classifier()
    classifier.save_preset(tmp_path / "preset")
    pipeline = transformers.pipeline("text-classification", str(tmp_path / "preset"), device="cpu")
    for ours, theirs in zip(classifier.classify(TEXTS), pipeline(TEXTS), strict=True):
        assert ours.label == theirs["label"]
        np.testing.assert_allclose(ours.score, theirs["score"], atol=1e-5)


KIN = {
    # model type: fields of our config that differ from BERT's
    "bert": {},
    "distilbert": {"model_type": "distilbert", "num_segments": 0, "pooler": False},
    "electra": {"model_type": "electra", "embedding_dim": 16, "pooler": False},
}


@pytest.fixture
def kin(tiny_classifier):
    """A function: a classifier of a model type, with the tokenizer of that type."""

    def make(model_type):
        if model_type == "roberta":
            return roberta_classifier()
        return tiny_classifier(config=KIN[model_type])

    return make


def their_answers(transformers, directory, texts, pairs=None):
    """Logits, truncated and padded by the tokenizer of `transformers`."""
    import torch

    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(directory).eval()
    inputs = tokenizer(texts, pairs, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits.numpy()


@pytest.mark.parametrize("model_type", [*KIN, "roberta"])
def test_raw_texts_and_pairs(model_type, kin, transformers, tmp_path, assert_near):
    classifier = kin(model_type)
    classifier.save_preset(tmp_path)
    texts = [*TEXTS, "naïve 你好 👍", " two  spaces ", "the film was good " * 20]
    theirs = their_answers(transformers, tmp_path, texts)
    assert_near("logits", classifier.predict(texts, verbose=0), theirs)
    second = texts[::-1]
    theirs = their_answers(transformers, tmp_path, texts, second)
    pairs = list(zip(texts, second, strict=True))
    assert_near("logits of pairs", classifier.predict(pairs, verbose=0), theirs)


def test_their_roberta_with_a_real_vocabulary(transformers, data_path, tmp_path, assert_near):
    """Weights and tokenizer saved by `transformers`, texts as people write them."""
    import torch

    gpt2 = ByteBpeTokenizer.from_directory(data_path("vocab/gpt2"))
    made = tokenizer_of(gpt2.vocabulary, gpt2.merges, max_length=48)
    made.save(tmp_path)
    transformers.AutoTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = transformers.RobertaConfig(
        vocab_size=made.vocab_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=50,
        type_vocab_size=1,
        initializer_range=0.2,
        num_labels=3,
    )
    transformers.RobertaForSequenceClassification(config).save_pretrained(tmp_path)
    classifier = TextClassifier.from_preset(tmp_path)
    assert type(classifier.tokenizer) is ByteBpeTokenizer
    assert classifier.max_length == 48
    lines = data_path("sms_spam/SMSSpamCollection").read_text("utf-8").split("\n")[:200]
    texts = [line.partition("\t")[2] for line in lines] + TEXTS
    theirs = their_answers(transformers, tmp_path, texts)
    assert_near("logits", classifier.predict(texts, verbose=0), theirs)
    theirs = their_answers(transformers, tmp_path, texts, texts[::-1])
    assert_near("logits of pairs", classifier.predict((texts, texts[::-1]), verbose=0), theirs)
