"""Help, bad usage and errors of the command, most of it in real processes."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from lingxi.cli import main, quiet

ROOT = pathlib.Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "lingxi.cli.main"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
ENVIRONMENT.pop("TF_CPP_MIN_LOG_LEVEL", None)  # as in a user's shell


def run(*arguments, **kwargs):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **kwargs,
    )


def test_help_lists_every_command(lingxi):
    for arguments in ([], ["--help"], ["help"]):
        outcome = lingxi(*arguments)
        assert outcome.status == 0
        for name in main.COMMANDS:
            assert f"\n  {name} " in outcome.out


@pytest.mark.parametrize("name", main.COMMANDS)
def test_help_of_a_command(lingxi, name):
    outcome = lingxi(name, "--help")
    assert outcome.status == 0
    assert outcome.out.startswith(f"Usage: lingxi {name} ")
    assert "--debug" in outcome.out
    assert f"lingxi {name}" in outcome.out.partition("Example:")[2]
    assert lingxi(name, "-h").out == outcome.out
    assert all(line == line.rstrip() for line in outcome.out.splitlines())


def test_help_shows_defaults_choices_and_what_is_required(lingxi):
    text = " ".join(lingxi("train", "--help").out.split())
    assert "--epochs=N Passes over the data, N. Default: 3." in text
    assert "--precision=auto|float32|mixed_bfloat16 Number format" in text
    assert "--output=DIR DIR to save the task in. Required." in text
    assert "logtostderr" not in text  # absl's own flags


def test_help_needs_no_tensorflow():
    code = (
        "import sys; from lingxi.cli import main; main.main(['lingxi', '--help']);"
        "main.main(['lingxi', 'train', '--help']);"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, check=True, timeout=60)


def test_version(lingxi):
    assert lingxi("--version").out.startswith("lingxi 0.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "did you mean 'train'?"),
        (["frobnicate"], "there are train, tune, evaluate"),
        (["train"], "train needs --data, --preset, --output; see lingxi train --help"),
        (["train", "--epoch", "3"], "Did you mean: epochs"),
        (["train", "--epochs", "many"], "--epochs=many"),
        (["train", "--epochs", "0"], "--epochs=0"),
        (["predict", "--model", "m"], "give one of them"),
        (["predict", "--model", "m", "text", "--data", "a.csv"], "give one of them"),
        (["inspect"], "one path"),
        (["export", "--model", "m", "--output", "o", "--format", "coreml"], "saved_model|tflite"),
        (
            ["export", "--model=m", "--output=o", "--format=tflite", "--precision=bfloat16"],
            "--precision is only for --format saved_model",
        ),
    ],
)
def test_bad_usage(lingxi, arguments, message):
    outcome = lingxi(*arguments)
    assert outcome.status == 2
    assert outcome.err.startswith("lingxi: error: ") and outcome.err.count("\n") == 1
    assert message in outcome.err
    assert not outcome.out


def test_an_unexpected_error_is_one_line_unless_debugging(lingxi, monkeypatch):
    def fail(arguments):
        raise KeyError("secret")

    from lingxi.cli import list_presets

    monkeypatch.setattr(list_presets, "run", fail)
    assert "KeyError: 'secret'" in lingxi("list").err
    assert "Traceback" not in lingxi("list").err
    assert "Traceback" in lingxi("list", "--debug").err


def test_an_interrupt_that_a_library_wrapped_is_one(lingxi, monkeypatch):
    def fail(arguments):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as interrupt:
            raise RuntimeError("while importing") from interrupt

    from lingxi.cli import list_presets

    monkeypatch.setattr(list_presets, "run", fail)
    outcome = lingxi("list")
    assert outcome.status == 130
    assert outcome.err == "\nlingxi: interrupted; nothing was written\n"


def test_flags_return_to_their_defaults(lingxi, tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n")
    assert lingxi("inspect", "--debug", "a.csv").err.startswith("Traceback")
    assert lingxi("inspect", "a.csv").err.startswith("lingxi: error: a.csv is not a TFLite file")
    from lingxi.cli import inspect_model

    assert inspect_model.FLAGS.debug is False


def test_errors_of_tensorflow_are_let_through(capfd):
    with quiet.quiet_tensorflow():
        os.write(2, b"I0000 00:00:1.5 1 port.cc:153] oneDNN custom operations are on.\n")
        os.write(2, b"E0000 00:00:1.5 1 cuda.cc:9] the driver is too old\n")
    assert capfd.readouterr().err == "E0000 00:00:1.5 1 cuda.cc:9] the driver is too old\n"


def test_predict_in_a_real_process_prints_nothing_else(model):
    outcome = run("predict", "--model", model, "-", input="a film\nnot good\n")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    rows = [line.split("\t") for line in outcome.stdout.splitlines()]
    assert [row[2] for row in rows] == ["a film", "not good"]


def test_control_c_leaves_nothing(model, table, tmp_path):
    fit = ["--preset", model, "--data", table, "--output", "new"]
    process = subprocess.Popen(
        [*COMMAND, "train", *fit, "--epochs", "100000"],
        env=ENVIRONMENT,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("Epoch 3/"):
            break
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith("\n\nlingxi: interrupted; nothing was written\n")
    assert all(line.startswith("lingxi: ") for line in err.splitlines() if line)
    assert list(tmp_path.iterdir()) == []
