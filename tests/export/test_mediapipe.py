"""TFLite files that MediaPipe Tasks loads as they are, run by MediaPipe itself."""

import zipfile

import numpy as np
import pytest

from lingxi import export
from lingxi.tasks import TextClassifier, TextEmbedder
from tests.export.conftest import LABELS, matrix

pytest.importorskip("mediapipe", reason="MediaPipe is not installed (extra mobile)")

ENGLISH = [
    "a lovely film",
    "the story was dull and cold",
    "Great MUSIC, fine actor!",
    "the film is " * 30 + "awful",
    "z" * 200,
    "poor",
    "",
]


@pytest.fixture(scope="module")
def tasks():
    from mediapipe import tasks

    return tasks


@pytest.fixture(scope="module")
def path(exported):
    with pytest.warns(UserWarning, match="MediaPipe's own tokenizer"):
        return exported("tflite", input="mediapipe")[0]


@pytest.fixture(scope="module")
def embedder(classifier):
    return TextEmbedder(classifier.backbone, classifier.tokenizer)


def test_text_classifier_of_mediapipe_gives_the_answers_of_keras(path, classifier, tasks):
    options = tasks.text.TextClassifierOptions(
        base_options=tasks.BaseOptions(model_asset_path=str(path))
    )
    with tasks.text.TextClassifier.create_from_options(options) as mediapipe:
        for text, wanted in zip(ENGLISH, classifier.classify(ENGLISH), strict=True):
            found = mediapipe.classify(text).classifications[0].categories
            scores = {category.category_name: category.score for category in found}
            assert set(scores) == set(LABELS)
            assert found[0].category_name == wanted.label
            for label, probability in wanted.probabilities.items():
                assert scores[label] == pytest.approx(probability, abs=1e-5)


def test_text_embedder_of_mediapipe_gives_the_embeddings_of_keras(embedder, tasks, tmp_path):
    path = tmp_path / "embedder.tflite"
    export.tflite(embedder, path, input="mediapipe", examples=ENGLISH)
    options = tasks.text.TextEmbedderOptions(
        base_options=tasks.BaseOptions(model_asset_path=str(path))
    )
    with tasks.text.TextEmbedder.create_from_options(options) as mediapipe:
        found = [mediapipe.embed(text).embeddings[0].embedding for text in ENGLISH]
    np.testing.assert_allclose(found, embedder.embed(ENGLISH), atol=1e-5)
    np.testing.assert_allclose(export.load(path).embed(ENGLISH), embedder.embed(ENGLISH), atol=1e-5)


def test_plain_english_exports_without_a_warning(classifier, tmp_path, recwarn):
    export.tflite(classifier, tmp_path / "c.tflite", input="mediapipe", examples=ENGLISH)
    assert not [w for w in recwarn if "MediaPipe" in str(w.message)]


def test_lingxi_runs_such_a_file_with_its_own_tokenizer(path, classifier, loaded):
    texts = [*ENGLISH, "École naïve Привет 你好 👍"]
    np.testing.assert_allclose(
        matrix(loaded(path).classify(texts)), matrix(classifier.classify(texts)), atol=1e-5
    )


def test_the_file_holds_vocabulary_and_labels_uncompressed(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().splitlines() == list(LABELS)
        assert {"vocab.txt", "labels.txt", "lingxi.json"} <= set(archive.namelist())
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())


@pytest.mark.parametrize("quantize", ["float16", "int8"])
def test_quantized_files_run_in_mediapipe(quantize, classifier, tasks, tmp_path):
    path = tmp_path / "c.tflite"
    report = export.tflite(
        classifier, path, quantize=quantize, input="mediapipe", examples=ENGLISH, min_agreement=0.8
    )
    assert report.precision == quantize
    with tasks.text.TextClassifier.create_from_model_path(str(path)) as mediapipe:
        found = [mediapipe.classify(t).classifications[0].categories[0] for t in ENGLISH]
    wanted = [answer.label for answer in export.load(path).classify(ENGLISH)]
    assert [category.category_name for category in found] == wanted


def test_what_mediapipe_cannot_run_is_refused(classifier, embedder, new_classifier, tmp_path):
    path = tmp_path / "c.tflite"
    with pytest.raises(ValueError, match="of single texts"):
        export.tflite(classifier, path, input="mediapipe", pairs=True)
    prompted = TextEmbedder(embedder.backbone, embedder.tokenizer, prompt="query: ")
    with pytest.raises(ValueError, match="puts no prompt before a text.*'query: '"):
        export.tflite(prompted, path, input="mediapipe")
    with pytest.raises(ValueError, match=r"one label a line.*\['two\\nlines'\]"):
        export.tflite(new_classifier(["good", "two\nlines"]), path, input="mediapipe")
    assert not path.exists()


def test_a_subclass_keeps_its_own_answers(classifier, tmp_path):
    class Louder(TextClassifier):
        pass

    louder = Louder(classifier.backbone, classifier.tokenizer, LABELS)
    with pytest.raises(ValueError, match="got a Louder"):
        export.tflite(louder, tmp_path / "c.tflite", input="mediapipe")
