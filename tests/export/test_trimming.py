"""`lingxi.export.trim_vocabulary`: smaller models, the same answers."""

import numpy as np
import pytest

from lingxi import export
from lingxi.tasks import MaskedLanguageModel, TextClassifier
from tests.export.conftest import matrix

SEEN = ["a lovely film", "the story was dull and cold", "Great MUSIC, fine actor!", "z" * 200]


@pytest.fixture(scope="module")
def trimmed(classifier):
    return export.trim_vocabulary(classifier, SEEN)


def test_texts_of_kept_tokens_get_the_same_answers(classifier, trimmed):
    task, _ = trimmed
    texts = [*SEEN, "a dull fine story", "", "a film, a film!"]
    np.testing.assert_allclose(
        matrix(task.classify(texts)), matrix(classifier.classify(texts)), atol=1e-6
    )
    assert [answer.label for answer in task.classify(["bad poor awful"])]  # in characters


def test_the_report_counts_what_is_gone(classifier, trimmed):
    task, report = trimmed
    gone = classifier.tokenizer.vocab_size - task.tokenizer.vocab_size
    assert gone > 50
    assert report.tokens == task.tokenizer.vocab_size
    assert report.parameters == task.count_params() == classifier.count_params() - 128 * gone
    assert f"{report.tokens_before:,} tokens" in str(report)
    assert f"-> {report.tokens:,} tokens" in str(report)


def test_it_is_saved_and_exported_as_any_other(trimmed, tmp_path):
    task, _ = trimmed
    task.save_preset(tmp_path / "preset")
    loaded = TextClassifier.from_preset(str(tmp_path / "preset"))
    assert loaded.tokenizer.vocabulary == task.tokenizer.vocabulary
    np.testing.assert_allclose(
        matrix(loaded.classify(SEEN)), matrix(task.classify(SEEN)), atol=1e-6
    )
    path = tmp_path / "trimmed.tflite"
    report = export.tflite(task, path, "int4", "ids", examples=SEEN, min_agreement=0)
    assert report.size < 200_000


def test_pairs_are_texts_too(classifier):
    task, _ = export.trim_vocabulary(classifier, [("a film", "the story")])
    vocabulary = task.tokenizer.vocabulary
    assert {"film", "story"} <= set(vocabulary)
    assert "music" not in vocabulary


def test_tasks_that_choose_among_tokens_are_refused(classifier):
    with pytest.raises(ValueError, match="got none"):
        export.trim_vocabulary(classifier, [])
    filler = MaskedLanguageModel(classifier.backbone, classifier.tokenizer)
    with pytest.raises(ValueError, match="MaskedLanguageModel does not, or chooses among all"):
        export.trim_vocabulary(filler, SEEN)
