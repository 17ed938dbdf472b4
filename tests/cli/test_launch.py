"""Processes of one command: started together, ended together, and one error if one fails."""

import importlib.util
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy

from lingxi.cli import launch
from tests.cli.test_main import COMMAND, ENVIRONMENT
from tests.layers.test_on_jax import ON_JAX

ADVICE = "Try again."


def run(*codes):
    """Launch a process of Python for each code; the status."""
    commands = [([sys.executable, "-c", code], dict(os.environ)) for code in codes]
    return launch.launch(commands, ADVICE)


SLEEP = "import time; time.sleep(60)"
DIE = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


def test_it_ends_when_all_have_and_only_the_first_is_heard(capfd):
    loud = "import sys; print('out'); print('err', file=sys.stderr)"
    assert run(loud, loud, "pass") == 0
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("out\n", "err\n")


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_others_at_once(killed):
    codes = [SLEEP, SLEEP, SLEEP]
    codes[killed] = DIE
    message = rf"^process {killed} of 3 was killed by SIGKILL, .* were ended\. Try again\.$"
    began = time.monotonic()
    with pytest.raises(ChildProcessError, match=message):
        run(*codes)
    assert time.monotonic() - began < launch.PATIENCE


def test_the_last_words_of_a_failed_process_are_shown(capfd):
    complains = "import sys; [print(i, file=sys.stderr) for i in range(99)]; sys.exit(3)"
    with pytest.raises(ChildProcessError, match="process 1 of 2 ended with status 3; "):
        run(SLEEP, complains)
    lines = capfd.readouterr().err.splitlines()
    assert lines == [f"[process 1] {i}" for i in range(99 - launch.LAST_LINES, 99)]


def test_what_is_wrong_with_all_is_said_once(capfd):
    wrong = "import sys, time; time.sleep({}); sys.exit('no such file')"
    assert run(wrong.format(0.3), wrong.format(0)) == 1
    assert capfd.readouterr().err == "no such file\n"


def test_control_c_lets_the_first_process_end_the_training():
    code = f"""
import signal, sys
from lingxi.cli import launch
first = "import signal, sys, time\\n" \\
    "signal.signal(signal.SIGINT, lambda *_: sys.exit(130)); print('ready', flush=True)\\n" \\
    "time.sleep(60)"
commands = [([sys.executable, "-c", c], None) for c in (first, {SLEEP!r})]
sys.exit(launch.launch(commands, ""))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130


def test_a_launcher_that_is_killed_leaves_nobody_behind():
    said = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    code = f"""
import sys
from lingxi.cli import launch
launch.launch([([sys.executable, "-c", {said!r}], None)], "")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    end = time.monotonic() + 10
    while is_running(child):
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--processes=2"], "--processes needs --distribute"),
        (["--distribute=data_parallel", "--coordinator=h:1"], "belong together"),
        (
            ["--distribute=data_parallel", "--coordinator=h:1", "--process_id=2", "--processes=2"],
            "--process_id must be less than --processes=2, got 2",
        ),
    ],
)
def test_flags_that_do_not_fit_together(lingxi, model, table, flags, message):
    outcome = lingxi("train", "--preset", model, "--data", table, "--output", "new", *flags)
    assert outcome.status == 2
    assert message in outcome.err


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None,
    reason="needs the extra `jax`: pip install 'lingxi[jax]'",
)
def test_a_training_goes_on_after_a_process_was_killed(model, table, tmp_path):
    environment = {**ENVIRONMENT, **ON_JAX, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    command = [*COMMAND, "train", "--preset", model, "--data", table, "--resume", "--seed", "1"]
    command += ["--epochs", "30", "--batch_size", "12", "--learning_rate", "1e-2"]
    command += ["--technique", "freelb", "--recompute"]
    command += ["--distribute", "data_parallel", "--processes", "2", "--output"]
    options = {"env": environment, "cwd": tmp_path, "text": True}
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}

    process = subprocess.Popen([*command, "killed"], **options)
    for line in process.stdout:
        if line.startswith("Epoch 3/"):
            break
    (second,) = (child for child in children(process.pid) if "--process_id=1" in child[1])
    os.kill(second[0], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    error = err.splitlines()[-1]
    assert error.startswith("lingxi: error: process 1 of 2 was killed by SIGKILL")
    assert error.endswith(f"newest checkpoint in {tmp_path / 'killed' / 'checkpoints'}.")
    assert err.count("error") == 1

    again = subprocess.run([*command, "killed"], check=True, **options)
    first = next(line for line in again.stdout.splitlines() if line.startswith("Epoch "))
    assert first not in ("Epoch 1/30", "Epoch 2/30")
    assert again.stdout.count("Saved to killed") == 1
    subprocess.run([*command, "whole"], check=True, **options)
    weights = [
        safetensors.numpy.load_file(tmp_path / name / "model.safetensors")
        for name in ("killed", "whole")
    ]
    for name, wanted in weights[1].items():
        np.testing.assert_array_equal(weights[0][name], wanted, err_msg=name)


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid):
    """Ids and arguments of the processes that a process has started."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as stat, open(f"/proc/{name}/cmdline") as line:
                parent, arguments = stat.read().rsplit(")", 1)[1].split()[1], line.read()
        except OSError:
            continue
        if int(parent) == pid:
            found.append((int(name), arguments.split("\0")))
    return found
