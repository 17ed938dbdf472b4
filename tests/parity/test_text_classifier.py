"""Classifiers exchanged with `transformers`, in both directions: the same logits and labels."""

import numpy as np
import pytest

from lingxi.tasks import TextClassifier
from tests.parity import models

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


def test_pairs_of_texts(transformers, tiny_classifier, tmp_path, assert_near):
    import torch

    classifier = tiny_classifier()
    classifier.save_preset(tmp_path / "preset")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "preset")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "preset")
    second = TEXTS[::-1]
    with torch.no_grad():
        theirs = model.eval()(**tokenizer(TEXTS, second, padding=True, return_tensors="pt")).logits
    ours = classifier.predict(list(zip(TEXTS, second, strict=True)), verbose=0)
    assert_near("logits", ours, theirs.numpy())
