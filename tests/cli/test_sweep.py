"""`lingxi export sweep` and `--recipe`."""

import json

import pytest


def test_a_sweep_is_a_table_and_a_picture(lingxi, model, table, tmp_path):
    outcome = lingxi(
        "export", "sweep", "--model", model, "--data", table, "--output", "swept",
        "--modes", "none,int8", "--input", "ids", "--max_drop", "1",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    lines = outcome.out.splitlines()
    assert " ".join(lines[0].split()) == "mode size 1 text 8 texts agreement accuracy drop"
    assert [line.split()[0] for line in lines[1:3]] == ["float32", "int8"]
    assert "swept/int8.tflite" in lines[-2]
    assert (tmp_path / "swept/sweep.png").is_file()


def test_a_sweep_of_saved_models_names_the_fastest(lingxi, model, table, tmp_path):
    outcome = lingxi(
        "export", "sweep", "--model", model, "--data", table, "--output", "swept",
        "--format", "saved_model", "--modes", "float32,int8_weights-cpu", "--max_drop", "1",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    lines = outcome.out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["float32", "int8_weights-cpu"]
    assert "the fastest here that loses at most 1: swept/" in lines[-2]
    text = " ".join(lingxi("inspect", tmp_path / "swept/int8_weights-cpu").out.split())
    assert "precision int8_weights target cpu" in text


def test_a_recipe_is_a_file(lingxi, model, tmp_path):
    (tmp_path / "recipe.json").write_text(json.dumps({"token_embedding": "int4", "*": "int8"}))
    options = ("--format", "tflite", "--output", "a.tflite", "--input", "ids")
    outcome = lingxi("export", "--model", model, *options, "--recipe", "recipe.json")
    assert outcome.status == 0, outcome.err
    assert outcome.out.startswith("TFLite mixed: a.tflite")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "--model=m", "--output=o"], "export needs --format"),
        (["export", "sweep", "--model=m", "--output=o"], "export needs --data"),
        (["export", "all", "--model=m", "--output=o"], "and the verb sweep; got ['all']"),
        (
            ["export", "--model=m", "--output=o", "--format=tflite", "--max_drop=0.1"],
            "--max_drop is only for sweep",
        ),
        (
            ["export", "sweep", "--model=m", "--output=o", "--data=d", "--quantize=int8"],
            "--quantize is only for --format tflite",
        ),
        (
            ["export", "--model=m", "--output=o", "--format=onnx", "--target=cpu"],
            "--target is only for --format saved_model",
        ),
        (
            ["export", "sweep", "--model=m", "--output=o", "--data=d", "--format=onnx"],
            "a sweep is of --format tflite, the default, or saved_model; got onnx",
        ),
        (
            [
                "export",
                "sweep",
                "--model=m",
                "--output=o",
                "--data=d",
                "--format=saved_model",
                "--input=ids",
            ],
            "--input is not for SavedModels",
        ),
    ],
)
def test_bad_usage_is_named(lingxi, arguments, message):
    outcome = lingxi(*arguments)
    assert outcome.status == 2
    assert message in outcome.err
