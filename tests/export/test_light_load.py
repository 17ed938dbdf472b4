"""`lingxi.export.load` of a TFLite file where neither TensorFlow nor Keras can be imported."""

import json
import subprocess
import sys

import numpy as np
import pytest

from lingxi import export
from lingxi.tasks import TextEmbedder
from tests.conftest import ROOT
from tests.export.conftest import PAIRS, TEXTS, matrix
from tests.export.test_generation import translator  # noqa: F401  a fixture

SECONDS, MEGABYTES = 0.6, 150  # of processor time, on a machine that others use too; of memory
ALONE = """
import sys
heavy = "tensorflow tensorflow_text keras jax torch scipy tqdm absl mediapipe".split()
rooms = [f"lingxi.{room}" for room in "cli generation images layers tasks training zoo".split()]
for name in [*heavy, *rooms]:
    sys.modules[name] = None  # an import of it fails
import json, pathlib, time
import lingxi
verb, path, *inputs = json.loads(sys.argv[1])
artifact = lingxi.export.load(path)
answers = getattr(artifact, verb)(*inputs)
seconds = time.process_time()
if verb == "classify":
    answers = [list(answer.probabilities.values()) for answer in answers]
elif verb == "embed":
    answers = answers.tolist()
status = pathlib.Path("/proc/self/status").read_text()
peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
print(json.dumps({"answers": answers, "seconds": seconds, "megabytes": peak}))
"""


def alone(verb, path, *inputs):
    """What a new process answers, the processor seconds it took from its start, its peak memory."""
    result = subprocess.run(
        [sys.executable, "-c", ALONE, json.dumps([verb, str(path), *inputs])],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def path_of(exported):
    """A function: the path of a TFLite file of `classifier`."""

    def make(input, **options):
        if input == "mediapipe":
            pytest.importorskip("mediapipe", reason="MediaPipe is not installed (extra mobile)")
            options["examples"] = ("a lovely film", "the story was dull and cold")
        return exported("tflite", input=input, **options)[0]

    return make


@pytest.mark.parametrize("input", ["ids", "text", "mediapipe"])
def test_a_classifier(input, path_of, classifier):
    found = alone("classify", path_of(input), TEXTS)
    np.testing.assert_allclose(found["answers"], matrix(classifier.classify(TEXTS)), atol=1e-5)


@pytest.mark.parametrize("input", ["ids", "text"])
def test_a_classifier_of_pairs(input, path_of, classifier):
    found = alone("classify", path_of(input, pairs=True), PAIRS)
    np.testing.assert_allclose(found["answers"], matrix(classifier.classify(PAIRS)), atol=1e-5)


def test_an_embedder_with_a_prompt(classifier, tmp_path):
    embedder = TextEmbedder(
        classifier.backbone, classifier.tokenizer, prompt="the film: ", prompts={"query": "who: "}
    )
    export.tflite(embedder, tmp_path / "e.tflite", input="ids")
    found = alone("embed", tmp_path / "e.tflite", TEXTS)
    np.testing.assert_allclose(found["answers"], embedder.embed(TEXTS), atol=1e-5)


def test_a_translator_of_sentence_pieces(translator, tmp_path):  # noqa: F811
    texts = ["the bird sees", "tea", "a river drinks rice"]
    path = tmp_path / "t.tflite"
    export.tflite(translator, path, max_length=12, examples=texts)
    assert alone("translate", path, texts)["answers"] == translator.translate(texts)


@pytest.mark.parametrize("input", ["ids", "text"])
def test_it_starts_fast_and_stays_small(input, path_of):
    runs = [alone("classify", path_of(input), TEXTS[:1]) for _ in range(3)]
    assert min(run["seconds"] for run in runs) < SECONDS
    assert max(run["megabytes"] for run in runs) < MEGABYTES


def test_what_needs_tensorflow_says_so(path_of, translator, tmp_path):  # noqa: F811
    path = tmp_path / "t.tflite"
    export.tflite(translator, path, input="ids", max_length=12, examples=["tea"])
    with pytest.raises(AssertionError, match=r"t\.tflite carries a tokenizer .* TensorFlow"):
        alone("translate", path, ["tea"])
