"""`lingxi.export.sweep`: number formats side by side."""

import pathlib

import pytest

from lingxi import export
from lingxi.export.sweep import Trial, with_front
from tests.export.conftest import names


@pytest.fixture(scope="module")
def swept(classifier, toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    modes = {
        "float32": None,
        "int8": "int8",
        "int4": "int4",
        "broken": {"nothing": "int8"},
    }
    return export.sweep(classifier, folder, toy[0], toy[1], modes, input="ids")


def test_each_mode_is_a_file_with_its_measures(swept):
    folder = swept.chart.parent
    assert names(folder) == ["float32.tflite", "int4.tflite", "int8.tflite", "sweep.png"]
    *made, broken = swept.trials
    assert [trial.name for trial in made] == ["float32", "int8", "int4"]
    for trial in made:
        assert trial.size == trial.path.stat().st_size
        assert trial.latency > 0 and trial.batch_latency > 0
        assert trial.drop == pytest.approx(swept.task_quality - trial.quality)
    assert made[0].quality == swept.task_quality == 1.0
    assert "fits no layer" in broken.problem
    assert swept.chart.read_bytes()[:4] == b"\x89PNG"


def test_the_smallest_within_the_bound_is_chosen(swept):
    good = [trial for trial in swept.trials if trial.path and trial.drop <= 0.01]
    assert swept.chosen in good
    assert swept.chosen.size == min(trial.size for trial in good)
    assert swept.chosen.on_front
    table = str(swept)
    assert "accuracy" in table
    assert f"the smallest that loses at most 0.01: {swept.chosen.path}" in table
    assert "the fastest here for 8 texts: " in table
    (line,) = [line for line in table.splitlines() if "<- chosen" in line]
    assert line.startswith(swept.chosen.name)
    assert "broken: the pattern 'nothing'" in table


def test_of_saved_models_the_fastest_is_chosen(classifier, toy, tmp_path):
    modes = ["float32", "int8_weights", "float32-cpu"]
    found = export.sweep(classifier, tmp_path, toy[0], modes=modes, format="saved_model")
    assert names(tmp_path) == sorted([*modes, "sweep.png"])
    assert [trial.name for trial in found.trials] == modes
    for trial in found.trials:
        artifact = export.load(trial.path)
        assert artifact.metadata["precision"] == trial.mode["precision"]
        assert artifact.metadata["target"] == trial.mode["target"]
        assert trial.quality == trial.agreement == 1.0
    assert found.measure == "agreement"
    assert found.chosen.latency == min(trial.latency for trial in found.trials)
    assert f"the fastest here that loses at most 0.01: {found.chosen.path}" in str(found)


def test_modes_of_saved_models_are_their_variants(classifier, toy, tmp_path):
    with pytest.raises(ValueError, match=r"are float32, float32-cpu, .*; got \['int8'\]"):
        export.sweep(classifier, tmp_path, *toy, ["int8"], format="saved_model")
    with pytest.raises(ValueError, match="format must be one of .*got 'onnx'"):
        export.sweep(classifier, tmp_path, *toy, format="onnx")


def test_the_front_holds_what_nothing_beats():
    def trial(name, *costs):
        size, latency, quality = costs
        return Trial(name, None, pathlib.Path(name), size, latency, quality)

    trials = [
        trial("large and good", 4, 4, 0.9),
        trial("small", 1, 3, 0.8),
        trial("beaten", 4, 4, 0.8),
        trial("fast", 4, 1, 0.7),
        trial("equal to small", 1, 3, 0.8),
        Trial("none", None, problem="no"),
    ]
    marked = [trial.name for trial in with_front(trials) if trial.on_front]
    assert marked == ["large and good", "small", "fast", "equal to small"]


def test_labels_must_fit(classifier, toy, tmp_path):
    with pytest.raises(ValueError, match="got 64 examples and 2 right answers"):
        export.sweep(classifier, tmp_path, toy[0], toy[1][:2], [None])
    with pytest.raises(ValueError, match="quantize must be one of .*got 'int3'"):
        export.sweep(classifier, tmp_path, *toy, ["int3"])
    with pytest.raises(ValueError, match="no mode gave a file: float32: input must be one of"):
        export.sweep(classifier, tmp_path, *toy, [None], input="strings")
    assert names(tmp_path) == []
