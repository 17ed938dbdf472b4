"""`examples/serving_c`: a C program that answers raw text, compiled against TensorFlow's wheel."""

import os
import pathlib
import shutil
import subprocess

import pytest
import tensorflow as tf
import tensorflow_text

from tests.conftest import ROOT
from tests.export.conftest import TEXTS

SOURCE = ROOT / "examples/serving_c/classify.c"
OPERATIONS = pathlib.Path(tensorflow_text.__file__).parent / "python/ops"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    library = pathlib.Path(tf.__file__).parent
    if not (library / "libtensorflow_cc.so.2").exists():
        pytest.skip(f"no C library in {library}")
    path = tmp_path_factory.mktemp("c") / "classify"
    arguments = [f"-I{library}/include", f"-L{library}", f"-Wl,-rpath,{library}"]
    libraries = ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"]
    flags = ["-Wall", "-Wextra", "-Werror"]
    subprocess.run(["gcc", *flags, SOURCE, *arguments, *libraries, "-o", path], check=True)
    return path


def run(program, *arguments):
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


@pytest.mark.slow
def test_it_gives_the_answers_of_keras(program, exported, classifier):
    path, _ = exported("saved_model")
    texts = [text for text in TEXTS if "\0" not in text]  # an argument ends there
    result = run(program, path, OPERATIONS, *texts)
    assert result.returncode == 0, result.stderr
    found = [line.split("\t") for line in result.stdout.splitlines()]
    expected = classifier.classify(texts)
    assert [label for label, _ in found] == [answer.label for answer in expected]
    scores = [float(score) for _, score in found]
    assert scores == pytest.approx([answer.score for answer in expected], abs=1e-5)

    nowhere = run(program, path.parent / "9", OPERATIONS, "a text")
    assert nowhere.returncode == 1
    assert "classify: " in nowhere.stderr
