"""What the benchmarks share: real data, and timing by turns."""

import contextlib
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections import namedtuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
READY, TOOK = "lingxi-benchmark-ready", "lingxi-benchmark-took"
LONG = 1.0  # seconds of a call that warms itself
REST = 0.2  # seconds until the threads of the side before have ceased to spin
ROOT = pathlib.Path(__file__).resolve().parents[1]
DATA = pathlib.Path(os.environ.get("LINGXI_TEST_DATA", ROOT / "../shared/data"))


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


Cost = namedtuple("Cost", "seconds memory")  # of a call, median; bytes of its process, peak


def call_by_call(script, sides, *arguments, rounds=10):
    """The `Cost` of each side, whose calls take turns: what else the machine does hits all alike.

    `script --side=…` hands its call to `take_turns`. Each side is a process of its own, for the
    reason above, and waits while the others work.
    """
    seconds, memory = {side: [] for side in sides}, {}
    with contextlib.ExitStack() as stack:
        processes = {}
        for side in sides:
            command = [sys.executable, script, f"--side={side}", *arguments]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            process = processes[side] = stack.enter_context(subprocess.Popen(command, **pipes))
            stack.callback(process.kill)
            _expect(process, READY)
        for _ in range(rounds):
            for side, process in processes.items():
                time.sleep(REST)
                print(file=process.stdin, flush=True)
                spent, memory[side] = json.loads(_expect(process, TOOK))
                seconds[side].append(spent)
    return {side: Cost(statistics.median(seconds[side]), memory[side]) for side in sides}


def take_turns(call):
    """The other end of `call_by_call`: for each line of standard input one call that is timed.

    Another goes before it, if it is short: caches and threads are as in steady use.
    """
    call()
    spent = _seconds(call)
    print(READY, flush=True)
    for _ in sys.stdin:
        if spent < LONG:
            call()
        spent = _seconds(call)
        print(TOOK, json.dumps([spent, peak_memory()]), flush=True)


def _seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak_memory():
    """Bytes that this process held in memory at most; `getrusage` counts its parent's too."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _expect(process, word):
    """What follows the word that starts the next such line of a process."""
    for line in process.stdout:
        if line.startswith(word):
            return line.removeprefix(word)
    raise RuntimeError(f"{process.args} ended with {process.wait()}")


def check_installed(*packages):
    """Exit, naming what to install, unless these packages of peers are there."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        names = " ".join(missing).replace("_", "-")
        raise SystemExit(f"this compares with {names}: pip install {names}")


def bandwidth():
    """GB/s at which this machine reads a matrix that it multiplies with a vector."""
    import numpy as np

    matrix = np.ones((50257, 768), "float32")
    vector = np.ones(768, "float32")
    return matrix.nbytes / min(timed(lambda: matrix @ vector, 10)) / 1e9


def describe_machine():
    """One line on the processor: figures mean little without it."""
    try:
        info = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    name = info.split("model name")[1].split(":", 1)[1].splitlines()[0].strip()
    kinds = {"amx_bf16": "by AMX", "avx512_bf16": "by AVX-512"}
    bfloat16 = next((how for flag, how in kinds.items() if flag in info), "as float32")
    return f"{name}, {os.cpu_count()} cores, bfloat16 {bfloat16}"
