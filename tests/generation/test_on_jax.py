"""Every decoding loop on Keras' other backend."""

import importlib.util
import os
import subprocess
import sys

import keras
import pytest

from tests.layers.test_on_jax import ON_JAX, ROOT

TESTS = [  # one of each loop: JAX compiles every shape anew
    "test_beam_search.py::test_beams_are_distinct_and_no_worse_than_greedy",
    "test_constraints.py::test_no_ngram_comes_twice_prompt_included[2-greedy]",
    "test_contrastive.py::test_an_encoder_and_decoder_search_too",
    "test_decoder.py::test_step_by_step_is_the_same_as_the_loop",
    "test_decoder.py::test_temperature_zero_at_run_time_is_greedy",
    "test_speculative.py::test_a_perfect_draft_saves_most_calls",
]


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="runs on JAX already")
@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None,
    reason="needs the extra `jax`: pip install 'lingxi[jax]'",
)
def test_every_loop_runs_on_jax():
    tests = [f"tests/generation/{test}" for test in TESTS]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, **ON_JAX}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]
    assert f"{len(TESTS)} passed" in result.stdout
