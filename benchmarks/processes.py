"""MiniLM on SST-2 over processes on JAX: examples/s of one core, of two, and of two processes.

    python benchmarks/processes.py [--steps=10]

Batches of 32 texts of 64 tokens. A process has one core where there are two of them, so that the
last two rows share the same cores, by threads and by data parallelism.
"""

import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

from absl import app, flags
from common import describe_machine, sst2

from lingxi.cli.launch import free_address, launch

STEPS = flags.DEFINE_integer("steps", 10, "timed, after two")
PROCESSES = flags.DEFINE_integer("processes", None, "internal: of the training")
PROCESS = flags.DEFINE_integer("process", 0, "internal: the number of this one")
ADDRESS = flags.DEFINE_string("address", None, "internal: of process 0")
RESULT = flags.DEFINE_string("result", None, "internal: where to write the seconds")

BATCH, LENGTH = 32, 64
ROWS = {"1 process, 1 core": [[0]], "1 process, 2 cores": [[0, 1]], "2 processes": [[0], [1]]}


def main(_):
    if PROCESSES.value:
        train()
        return
    print(describe_machine())
    cores = sorted(os.sched_getaffinity(0))
    first = None
    for name, shares in ROWS.items():
        rate = BATCH / seconds([[cores[i] for i in share] for share in shares])
        first = first or rate
        print(f"{name:18}: {rate:6.1f} examples/s, {rate / first:.2f} times one core", flush=True)


def seconds(shares):
    """Of a step, median, with a process on each share of the cores."""
    with tempfile.TemporaryDirectory() as directory:
        result = pathlib.Path(directory) / "seconds.json"
        command = [sys.executable, __file__, f"--steps={STEPS.value}", f"--result={result}"]
        command += [f"--processes={len(shares)}", f"--address={free_address()}"]
        environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
        commands = []
        for number, share in enumerate(shares):
            pinned = ["taskset", "--cpu-list", ",".join(map(str, share))]
            commands.append(([*pinned, *command, f"--process={number}"], environment))
        if launch(commands, ""):
            raise RuntimeError(f"the training over {len(shares)} processes failed")
        return statistics.median(json.loads(result.read_text("utf-8")))


def train():
    import keras

    from lingxi import tasks, training

    training.distribute("data_parallel", ADDRESS.value, PROCESSES.value, PROCESS.value)

    class Clock(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.times = []

        def on_train_batch_end(self, batch, logs=None):
            float(logs["loss"])  # when the step is done
            self.times.append(time.perf_counter())

    classifier = tasks.TextClassifier.from_preset(
        "minilm_l6_en_uncased", labels=["negative", "positive"], max_length=LENGTH
    )
    texts, labels = (column[: BATCH * (STEPS.value + 2)] for column in sst2("train"))
    inputs = classifier.tokenizer(texts, max_length=LENGTH, padding="max_length")
    inputs = {name: values.numpy() for name, values in inputs.items()}
    clock = Clock()
    targets = classifier.targets(labels)
    classifier.fit(inputs, targets, batch_size=BATCH, verbose=0, callbacks=[clock], shuffle=False)
    if training.is_first_process():
        steps = [b - a for a, b in zip(clock.times, clock.times[1:], strict=False)]
        pathlib.Path(RESULT.value).write_text(json.dumps(steps[1:]), "utf-8")


if __name__ == "__main__":
    app.run(main)
