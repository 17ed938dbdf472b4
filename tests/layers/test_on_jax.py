"""The layers and the architectures on Keras' other backend."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="runs on JAX already")
@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None,
    reason="needs the extra `jax`: pip install 'lingxi[jax]'",
)
@pytest.mark.parametrize("room", ["layers", "zoo"])
def test_all_tests_of_a_room_pass_on_jax(room):
    command = [sys.executable, "-m", "pytest", f"tests/{room}", "-m", "not tensorflow_only"]
    result = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "no:randomly"],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]
    assert " passed" in result.stdout
