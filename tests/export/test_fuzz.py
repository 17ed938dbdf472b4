import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_artifacts_answer_random_strings_as_the_model_does(minilm_dir):
    command = [sys.executable, "benchmarks/fuzz.py", "--strings=400", "--seed=1"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("invalid UTF-8") == 2  # SavedModel and TFLite
