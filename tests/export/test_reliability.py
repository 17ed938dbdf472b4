"""Exports that are killed leave nothing broken; exports in a long-lived process leave no graphs."""

import gc
import json
import subprocess
import sys

import pytest
from tensorflow.python.framework.func_graph import FuncGraph

from lingxi import export
from tests.conftest import ROOT
from tests.export.conftest import LABELS, names

# Exports in forks of one process, so that TensorFlow is imported once, and kills each after a
# random part of the time that a whole export takes. Prints what is left after each kill.
KILLER = """
import json, os, pathlib, random, signal, sys, time
import tensorflow, tensorflow_text
from lingxi import export
from lingxi.export import metadata, saved_model, tflite, verification
from lingxi.tasks import TextClassifier

verification.TIMED_RUNS = 1
task, form, target, points = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), int(sys.argv[4])

def start():
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            options = {"input": "ids"} if form == "tflite" else {}
            classifier = TextClassifier.from_preset(task)
            getattr(export, form)(classifier, target, examples=["a film"], **options)
            status = 0
        finally:
            os._exit(status)
    return pid

def artifacts():
    found = [target] if form == "tflite" else [p for p in target.iterdir() if p.name.isdigit()]
    return {path.name: metadata.read(path)["card"]["created"] for path in found}  # raises if broken

begun = time.monotonic()
assert os.waitpid(start(), 0)[1] == 0
whole = time.monotonic() - begun
chance = random.Random(0)
for _ in range(points):
    before, pid = artifacts(), start()
    time.sleep(chance.uniform(0, 1.05 * whole))
    os.kill(pid, signal.SIGKILL)
    killed = os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    print(json.dumps({"killed": killed, "before": before, "after": artifacts()}), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["tflite", "saved_model"])
def test_an_export_that_is_killed_leaves_the_old_artifact_or_the_new_one(
    form, tiny_classifier, tmp_path
):
    tiny_classifier(LABELS).save_preset(tmp_path / "task")
    target = tmp_path / "out" / ("model.tflite" if form == "tflite" else "model")
    command = [sys.executable, "-c", KILLER, tmp_path / "task", form, target, "10"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    trials = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert len(trials) == 10
    assert sum(trial["killed"] for trial in trials) >= 5
    for trial in trials:
        kept = {name: trial["after"].get(name) for name in trial["before"]}
        if form == "saved_model":  # older versions stay; there may be a whole new one
            assert kept == trial["before"]
        elif trial["killed"] and kept != trial["before"]:
            assert trial["after"]["model.tflite"] > trial["before"]["model.tflite"]
    assert len(export.load(target).classify(["a good film"])) == 1


@pytest.mark.parametrize("form", ["tflite", "saved_model"])
def test_exports_leave_no_graphs_in_memory(form, tiny_classifier, tmp_path):
    """Not even where nothing else collects what holds itself."""
    task, counts = tiny_classifier(LABELS), []
    target = tmp_path / ("model.tflite" if form == "tflite" else "model")
    options = {"input": "ids"} if form == "tflite" else {}
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            getattr(export, form)(task, target, examples=["a good film"], **options)
            counts.append(sum(isinstance(thing, FuncGraph) for thing in gc.get_objects()))
    finally:
        gc.enable()
    assert counts[2] == counts[1]
    assert names(tmp_path) == [target.name]
