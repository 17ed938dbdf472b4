"""Several processes on JAX train as one does, and what they trained ships by TensorFlow."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lingxi import export, tasks
from lingxi.cli.launch import free_address
from tests.layers.test_on_jax import ON_JAX
from tests.training.process_training import TEXTS
from tests.training.techniques_on_jax import DRAWN, OTHERS, PLAIN, train
from tests.training.test_techniques_of_tasks import MAKERS

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.tensorflow_only,  # these start JAX themselves
    pytest.mark.skipif(
        importlib.util.find_spec("jax") is None,
        reason="needs the extra `jax`: pip install 'lingxi[jax]'",
    ),
]


def train_together(directory, number, *distributions):
    """What so many processes of `process_training` printed."""
    command = [sys.executable, "-m", "tests.training.process_training", directory, free_address()]
    options = {"cwd": ROOT, "env": {**os.environ, **ON_JAX}, "text": True}
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [
        subprocess.Popen([*command, str(number), str(k), *distributions], **options)
        for k in range(number)
    ]
    try:
        printed = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, err) in zip(processes, printed, strict=True):
        assert process.returncode == 0, err[-4000:]
    return [out for out, _ in printed]


@pytest.fixture(scope="module")
def preset(tiny_classifier, tmp_path_factory):
    directory = tmp_path_factory.mktemp("processes") / "task"
    tiny_classifier(config={"dropout": 0.1}).save_preset(directory)
    return directory


@pytest.fixture(scope="module")
def two(preset):
    return train_together(preset, 2, "data_parallel", "model_parallel")


def assert_as_one(printed, number):
    found = json.loads(printed[0].splitlines()[-1])
    assert found.pop("processes") == number
    for name, difference in found.items():
        assert difference < 1e-5, name


def test_two_processes_train_as_one_does(two):
    assert_as_one(two, 2)
    assert "Epoch 1/2" in two[0]
    assert "Epoch" not in two[1], "the first one speaks for all"


def test_four_processes_in_two_groups_train_as_one_does(preset):
    assert_as_one(train_together(preset, 4, "model_parallel"), 4)


def test_one_process_resumes_to_the_last_bit(preset, tmp_path):
    command = [sys.executable, "-m", "tests.training.resumed_on_jax", preset, tmp_path]
    environment = {**os.environ, **ON_JAX, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert found == {"plain": [], "resumed": [], "finished": []}


def test_every_task_trains_on_two_devices_as_on_one(vocabulary, tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(vocabulary), encoding="utf-8")
    flags = f"{ON_JAX['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    environment = {**os.environ, **ON_JAX, "XLA_FLAGS": flags}
    environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "cache")
    command = [sys.executable, "-m", "tests.training.tasks_on_jax", path, *MAKERS]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert found.keys() == MAKERS.keys()
    for kind, apart in found.items():
        assert max(apart["weights"], apart["history"]) < 1e-5, kind
        assert "val_loss" in apart["metrics"], kind
    assert "val_f1" in found["tagger"]["metrics"]
    assert "val_perplexity" in found["generator"]["metrics"]


def test_techniques_train_on_jax_as_on_tensorflow(tiny_classifier, vocabulary, tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(vocabulary), encoding="utf-8")
    tiny_classifier().save_preset(tmp_path / "task")
    tiny_classifier(config={"dropout": 0.2}).save_preset(tmp_path / "task_dropout")
    flags = f"{ON_JAX['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    environment = {**os.environ, **ON_JAX, "XLA_FLAGS": flags}
    environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "cache")
    command = [sys.executable, "-m", "tests.training.techniques_on_jax", tmp_path / "task", path]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
    found = json.loads(run.stdout.splitlines()[-1])

    same = {*PLAIN, *DRAWN, "recomputed", "resumed"}
    for name in same:
        assert max(found[name].values()) < 1e-5, name
    assert found["resumed"] == {"weights": 0.0, "history": 0.0}
    for name in ("averaged", "rounded"):
        assert 1e-3 < found[name]["weights"] < 1.0, name
    for kind in OTHERS:
        assert np.isfinite(found[kind]["loss"]) and found[kind]["moved"] > 1e-6, kind
    losses = found["distilled by LoRA"]["losses"]
    assert losses[-1] < losses[0]
    for name, technique in PLAIN.items():
        weights, _ = train(tmp_path / "task", technique())
        with np.load(tmp_path / f"task_{name}.npz") as others:
            for place, weight in enumerate(weights):
                np.testing.assert_allclose(others[f"arr_{place}"], weight, atol=1e-5, err_msg=name)


def test_what_jax_trained_is_exported_by_tensorflow(two, preset, tmp_path):
    wanted = np.load(f"{preset}_logits.npy")
    classifier = tasks.load(f"{preset}_trained")
    np.testing.assert_allclose(classifier.predict(TEXTS, verbose=0), wanted, atol=1e-5)
    export.saved_model(classifier, tmp_path / "served", examples=TEXTS)
    answers = export.load(tmp_path / "served").classify(TEXTS)
    labels = [classifier.labels[i] for i in wanted.argmax(axis=-1)]
    assert [answer.label for answer in answers] == labels
    scores = np.exp(wanted).max(axis=-1) / np.exp(wanted).sum(axis=-1)
    np.testing.assert_allclose([answer.score for answer in answers], scores, atol=1e-5)
