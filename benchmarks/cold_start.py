"""The first answer of a SavedModel in a new process, beside what no process can do without.

    python benchmarks/cold_start.py [--preset=bert_base] [--processes=5]

Median seconds, each of new processes that take turns: `import tensorflow` and reading all bytes of
the model; and `import tensorflow, tensorflow_text`, loading the model and answering one raw text.
The files are in the page cache for both.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

from absl import app, flags
from common import describe_machine

import lingxi
from lingxi.zoo import preset

PRESET = flags.DEFINE_string("preset", "bert_base", "size of the classifier, with random weights")
PROCESSES = flags.DEFINE_integer("processes", 5, "of each kind")
PRECISIONS = ("float32", "bfloat16", "int8_weights")
BEGIN = "import json, pathlib, sys, time; start = time.perf_counter(); folder = sys.argv[1]\n"
END = "print(json.dumps(time.perf_counter() - start))"
LEAST = """
import tensorflow
for path in pathlib.Path(folder).rglob("*"):
    path.is_file() and path.read_bytes()
"""
FIRST_ANSWER = """
import tensorflow as tf, tensorflow_text
serve = tf.saved_model.load(folder).signatures["serving_default"]
serve(text=tf.constant(["what a lovely stream"]))["label"].numpy()
"""


def main(_):
    classifier = lingxi.tasks.TextClassifier.from_preset(
        PRESET.value,
        labels=["negative", "positive"],
        vocabulary=preset.resolve("minilm_l6_en_uncased") / "vocab.txt",
        max_length=128,
    )
    print(describe_machine(), PRESET.value, flush=True)
    for precision in PRECISIONS:
        with tempfile.TemporaryDirectory() as folder:
            report = lingxi.export.saved_model(
                classifier, folder, precision=precision, min_agreement=0.0
            )
            times = {LEAST: [], FIRST_ANSWER: []}
            for _ in range(PROCESSES.value):
                for code, seconds in times.items():
                    seconds.append(seconds_of(code, report.path))
        least, first = (statistics.median(seconds) for seconds in times.values())
        print(
            f"{precision:12} {report.size / 1e6:5.0f} MB: import and reading {least:.2f} s, "
            f"first answer {first:.2f} s, {first / least:.2f} times",
            flush=True,
        )


def seconds_of(code, path):
    command = [sys.executable, "-c", BEGIN + code + END, str(pathlib.Path(path))]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


if __name__ == "__main__":
    app.run(main)
