"""`lingxi export --format onnx`."""

import pytest

pytest.importorskip("tf2onnx", reason="needs the extra `onnx`")


def test_an_onnx_file_is_written_and_answers(lingxi, model):
    outcome = lingxi("export", "--model", model, "--format", "onnx", "--output", "a.onnx")
    assert outcome.status == 0, outcome.err
    assert outcome.out.startswith("ONNX float32: a.onnx")
    assert "token_ids int32[batch, sequence]" in outcome.out
    outcome = lingxi("predict", "--model", "a.onnx", "a lovely film")
    assert outcome.status == 0, outcome.err
    assert outcome.out.split("\t")[0] in ("positive", "negative")


def test_inspect_shows_the_file(lingxi, model):
    lingxi("export", "--model", model, "--format", "onnx", "--output", "a.onnx")
    outcome = lingxi("inspect", "a.onnx")
    assert outcome.status == 0, outcome.err
    rows = [line.split(maxsplit=1) for line in outcome.out.splitlines()]
    rows = {name: value for name, value in rows if name not in ("input", "output")}
    assert rows["format"] == "ONNX, operators of version 18"
    assert "input" in outcome.out and "padding_mask bool [batch, sequence]" in outcome.out
    assert rows["task"] == "TextClassifier"
    assert all(float(rows[part].split()[0]) > 0 for part in ("embeddings", "layers"))


def test_what_is_for_other_formats_is_refused(lingxi):
    arguments = ["--model=m", "--output=a.onnx", "--format=onnx", "--quantize=int8"]
    outcome = lingxi("export", *arguments)
    assert outcome.status == 2
    assert "--quantize is only for --format tflite" in outcome.err
