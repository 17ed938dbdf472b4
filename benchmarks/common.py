"""What the benchmarks share: real data, and timing by turns."""

import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
DATA = pathlib.Path(os.environ.get("LINGXI_TEST_DATA", "../shared/data"))


def sst2(split):
    """Sentences and their labels, "negative" or "positive"."""
    path = DATA / "sst2" / f"{split}.tsv"
    rows = [line.rsplit("\t", 1) for line in path.read_text("utf-8").splitlines() if line]
    return [text for text, _ in rows], [["negative", "positive"][int(label)] for _, label in rows]


def timed(function, runs):
    """Seconds of each of `runs` calls, after a warm-up."""
    for _ in range(3):
        function()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return times


def by_turns(script, sides, *arguments, turns=3):
    """Median seconds of each side: `script --side=…` prints a JSON list of them.

    Each turn is a process of its own: the thread pools of TensorFlow and PyTorch slow each other
    down badly in one process, even while the other one is idle.
    """
    times = {side: [] for side in sides}
    for _ in range(turns):
        for side in sides:
            command = [sys.executable, script, f"--side={side}", *arguments]
            run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            times[side] += json.loads(run.stdout.splitlines()[-1])
    return {side: statistics.median(seconds) for side, seconds in times.items()}


def describe_machine():
    """One line on the processor: figures mean little without it."""
    try:
        info = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    name = info.split("model name")[1].split(":", 1)[1].splitlines()[0].strip()
    amx = "with AMX" if "amx_bf16" in info else "without AMX"
    return f"{name}, {os.cpu_count()} cores, {amx}"
