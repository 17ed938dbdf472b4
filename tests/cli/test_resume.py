"""`lingxi train --resume`: the same command again goes on."""

import signal
import subprocess

import pytest

from tests.cli.test_main import COMMAND, ENVIRONMENT


@pytest.mark.slow
def test_the_same_command_goes_on_after_control_c(lingxi, model, table, tmp_path):
    command = ["train", "--preset", model, "--data", table, "--output", "new", "--resume"]
    command += ["--epochs", "40", "--seed", "1"]
    process = subprocess.Popen(
        [*COMMAND, *command],
        env=ENVIRONMENT,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("Epoch 3/"):
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    last = err.splitlines()[-1]
    assert last.startswith("lingxi: interrupted; the same command goes on from ")
    assert last.rsplit(" ", 1)[1].startswith(str(tmp_path / "new" / "checkpoints"))

    outcome = lingxi(*command)
    assert outcome.status == 0
    first = next(line for line in outcome.out.splitlines() if line.startswith("Epoch "))
    assert first not in ("Epoch 1/40", "Epoch 2/40")
    assert "Saved to new" in outcome.out
    assert "checkpoints" not in {path.name for path in (tmp_path / "new").iterdir()}
    outcome = lingxi(*command)
    assert (outcome.status, outcome.out) == (0, "")
    assert outcome.err == "lingxi: the training of new has finished already\n"


def test_other_data_in_the_directory_is_not_touched(lingxi, model, table, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "notes.txt").write_text("mine")
    outcome = lingxi("train", "--preset", model, "--data", table, "--output", "new", "--resume")
    assert outcome.status == 1
    assert "is not empty" in outcome.err
