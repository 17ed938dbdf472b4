"""More devices than one give the same training."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lingxi import tasks

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.tensorflow_only
def test_two_devices_train_as_one_does(tiny_classifier, tmp_path):
    tiny_classifier().save_preset(tmp_path / "task")
    command = [sys.executable, "-m", "tests.training.mirrored_training", str(tmp_path / "task")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert found.pop("replicas") == 2
    for name, difference in found.items():
        assert difference < 1e-5, name
    restored = tasks.load(tmp_path / "task_tagger")  # a file of one device
    assert restored.tag("a good film") is not None
