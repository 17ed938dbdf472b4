"""The layers and the architectures on Keras' other backend."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parents[2]
ON_JAX = {
    "KERAS_BACKEND": "jax",
    "JAX_PLATFORMS": "cpu",
    # The time goes into compiling many small operations: compile them fast.
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    # And what one worker has compiled, let the other one read.
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="runs on JAX already")
@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None,
    reason="needs the extra `jax`: pip install 'lingxi[jax]'",
)
def test_all_tests_of_layers_and_zoo_pass_on_jax(tmp_path):
    command = [sys.executable, "-m", "pytest", "tests/layers", "tests/zoo"]
    command += ["-m", "not tensorflow_only", "-p", "no:cacheprovider"]
    if importlib.util.find_spec("xdist") is not None:
        command += ["-n", "2"]
    result = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **ON_JAX, "JAX_COMPILATION_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]
    assert " passed" in result.stdout
