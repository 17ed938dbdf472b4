"""What the benchmarks share: real data, and timing by turns."""

import os
import pathlib
import platform
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
DATA = pathlib.Path(os.environ.get("LINGXI_TEST_DATA", "../shared/data"))


def sst2(split):
    """Sentences and their labels, "negative" or "positive"."""
    path = DATA / "sst2" / f"{split}.tsv"
    rows = [line.rsplit("\t", 1) for line in path.read_text("utf-8").splitlines() if line]
    return [text for text, _ in rows], [["negative", "positive"][int(label)] for _, label in rows]


def by_turns(functions, rounds):
    """Median seconds of each function of `{name: function}`, called by turns after a warm-up."""
    for function in functions.values():
        function()
        function()
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def describe_machine():
    """One line on the processor: figures mean little without it."""
    try:
        info = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    name = info.split("model name")[1].split(":", 1)[1].splitlines()[0].strip()
    amx = "with AMX" if "amx_bf16" in info else "without AMX"
    return f"{name}, {os.cpu_count()} cores, {amx}"
