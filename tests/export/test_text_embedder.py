"""Artifacts of a `TextEmbedder`: raw text to the embeddings of the task."""

import numpy as np
import pytest
import tensorflow as tf

from lingxi import export
from lingxi.tasks import TextEmbedder
from tests.export.conftest import FORMATS, TEXTS, module

PROMPTS = {"query": "who was ", "passage": "the "}


@pytest.fixture(scope="module")
def new_embedder(new_classifier):
    """A function: a small embedder with the same random weights each time."""

    def make(**kwargs):
        parts = new_classifier()
        return TextEmbedder(parts.backbone, parts.tokenizer, **kwargs)

    return make


@pytest.fixture(scope="module")
def embedder(new_embedder):
    return new_embedder(prompts=PROMPTS)


@pytest.fixture(scope="module")
def path_of(tmp_path_factory):
    """A function: the path of an artifact of a task."""

    def make(task, form, **options):
        path = tmp_path_factory.mktemp("embedder") / "embedder"
        function, defaults = FORMATS[form]
        if function == "tflite":
            path = path.with_suffix(".tflite")
        return getattr(export, function)(task, path, **(defaults | options)).path

    return make


@pytest.fixture(scope="module", params=FORMATS)
def form(request):
    return request.param


@pytest.fixture(scope="module")
def artifact(form, embedder, path_of):
    return export.load(path_of(embedder, form))


def test_raw_text_gives_the_embeddings_of_the_task(artifact, embedder):
    np.testing.assert_allclose(artifact.embed(TEXTS), embedder.embed(TEXTS), atol=2e-6)
    np.testing.assert_allclose(artifact.embed(TEXTS[0]), embedder.embed(TEXTS[0]), atol=2e-6)
    assert artifact.embed([]).shape == (0, embedder.dim)


def test_it_compares_and_finds_as_the_task_does(artifact, embedder):
    np.testing.assert_allclose(
        artifact.similarity(TEXTS[:3], TEXTS), embedder.similarity(TEXTS[:3], TEXTS), atol=4e-6
    )
    found, wanted = (x.search(TEXTS[3:5], TEXTS, top_k=3, block=4) for x in (artifact, embedder))
    for hits, wanted_hits in zip(found, wanted, strict=True):
        assert [hit.index for hit in hits] == [hit.index for hit in wanted_hits]
        assert [hit.text for hit in hits] == [TEXTS[hit.index] for hit in hits]
        scores = [hit.score for hit in wanted_hits]
        assert [hit.score for hit in hits] == pytest.approx(scores, abs=4e-6)


def test_named_prompts_go_before_the_texts(artifact, embedder):
    found, wanted = (x.embed(["good", "rice"], "query") for x in (artifact, embedder))
    np.testing.assert_allclose(found, wanted, atol=2e-6)
    with pytest.raises(ValueError, match="no prompt 'nobody'"):
        artifact.embed(["good"], "nobody")


@pytest.mark.parametrize("pooling", ["cls", "max"])
def test_every_pooling_is_exported(new_embedder, path_of, form, pooling):
    task = new_embedder(pooling=pooling, normalize=False)
    found = export.load(path_of(task, form)).embed(TEXTS)
    np.testing.assert_allclose(found, task.embed(TEXTS), atol=2e-5)


def test_the_prompt_of_the_task_is_in_the_file(new_embedder, path_of, form):
    """Also for texts that are too long with it."""
    task = new_embedder(prompt="the long story: ", prompts=PROMPTS, max_length=12)
    artifact = export.load(path_of(task, form))
    np.testing.assert_allclose(artifact.embed(TEXTS), task.embed(TEXTS), atol=2e-6)
    with pytest.raises(ValueError, match="puts 'the long story: ' before every text"):
        artifact.embed(["good"], "query")


def test_tflite_refuses_a_prompt_that_runs_into_the_text(new_embedder, tmp_path):
    with pytest.raises(ValueError, match='pass input="ids"'):
        export.tflite(new_embedder(prompt="un"), tmp_path / "embedder.tflite")
    assert list(tmp_path.iterdir()) == []


def test_pairs_are_not_exported(embedder, tmp_path):
    with pytest.raises(ValueError, match="takes single texts, not pairs"):
        export.saved_model(embedder, tmp_path / "embedder", pairs=True)


def test_a_server_needs_only_the_text(embedder, path_of):
    served = tf.saved_model.load(str(path_of(embedder, "saved_model")))
    found = served.signatures["serving_default"](text=tf.constant(TEXTS))
    assert list(found) == ["embedding"]
    np.testing.assert_allclose(found["embedding"], embedder.embed(TEXTS), atol=2e-6)


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("tflite_text", {"quantize": "int8"}),
        ("tflite_ids", {"quantize": "float16"}),
        ("saved_model", {"precision": "bfloat16"}),
    ],
)
def test_fewer_bits_point_the_same_way(embedder, path_of, form, options):
    found = export.load(path_of(embedder, form, **options)).embed(TEXTS)
    expected = embedder.embed(TEXTS)
    assert (found * expected).sum(-1).min() > 0.99
    assert np.abs(found - expected).max() > 1e-5  # more than float32 artifacts differ by


def test_an_artifact_of_other_weights_fails_verification(embedder, new_embedder, path_of):
    other = new_embedder(prompts=PROMPTS)
    block = other.backbone.blocks[0].feed_forward.output_dense
    block.set_weights([3.0 * weight for weight in block.get_weights()])
    path = path_of(embedder, "tflite_ids")
    with pytest.raises(export.VerificationError, match="the answer of its task for"):
        export.verify(other, path)


def test_disagreement_is_0_up_to_a_cosine_of_99_hundredths(embedder):
    angle = np.arccos([1.0, 0.995, 0.98])
    expected = {"embedding": np.tile(np.array([[3.0, 0.0]]), (3, 1))}
    found = {"embedding": 3.0 * np.stack([np.cos(angle), np.sin(angle)], 1)}
    np.testing.assert_allclose(embedder.disagreement(expected, found), [0, 0, 0.01], atol=1e-6)
    longer = {"embedding": np.array([[3.0, 0.0], [3.3, 0.0], [6.0, 0.0]])}
    np.testing.assert_allclose(embedder.disagreement(expected, longer), [0, 0, 0.49], atol=1e-6)


def test_the_report_has_the_largest_difference(embedder, path_of):
    report = module("verification").verify(embedder, path_of(embedder, "tflite_ids"))
    assert report.agreement == 1.0
    assert 0.0 < report.max_difference < 2e-6
