"""Exports in one long-lived process: its resident memory after each.

    python benchmarks/export_memory.py [--exports=50] [--format=saved_model|tflite|int8]

The growth is that from the tenth export on: the first ones fill the pools of TensorFlow's memory
allocator, as any use of it does. The exit status is 1 if it is 5 % or more.
"""

import importlib
import os
import pathlib
import sys
import tempfile

from absl import app, flags

EXPORTS = flags.DEFINE_integer("exports", 50, "how many", lower_bound=20)
FORMATS = {
    "saved_model": ("saved_model", {}),
    "tflite": ("tflite", {"input": "text"}),
    "int8": ("tflite", {"input": "text", "quantize": "int8"}),
}
FORMAT = flags.DEFINE_enum("format", "saved_model", FORMATS, "of the exports")
FILLED, LIMIT = 10, 0.05
PAGE = os.sysconf("SC_PAGE_SIZE")


def main(_):
    import lingxi

    importlib.import_module("lingxi.export.verification").TIMED_RUNS = 3
    classifier = lingxi.tasks.TextClassifier.from_preset(
        "minilm_l6_en_uncased", labels=["praise", "complaint"]
    )
    form, options = FORMATS[FORMAT.value]
    memory = []
    for number in range(1, EXPORTS.value + 1):
        with tempfile.TemporaryDirectory() as folder:
            target = pathlib.Path(folder) / ("a.tflite" if form == "tflite" else "served")
            getattr(lingxi.export, form)(classifier, target, min_agreement=0.0, **options)
        memory.append(resident())
        print(f"export {number}: {memory[-1] / 1e6:.0f} MB", flush=True)
    growth = memory[-1] / memory[FILLED - 1] - 1
    print(f"{FORMAT.value}: {growth:+.1%} from export {FILLED} to {len(memory)}")
    sys.exit(growth >= LIMIT)


def resident():
    """Bytes of this process in memory."""
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * PAGE


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    app.run(main)
