"""TFLite float32, float16 and int8 of a MiniLM trained on SST-2: size, latency, dev accuracy.

python benchmarks/tflite.py [--model=DIR]      DIR: a preset that was trained before
"""

import pathlib
import statistics
import tempfile
import time

from absl import app, flags
from common import describe_machine, sst2

import lingxi

MODEL = flags.DEFINE_string("model", None, "a trained preset; without it, one is trained first")
MAX_LENGTH = 64


def main(_):
    print(describe_machine())
    texts, labels = sst2("dev")
    if MODEL.value:
        classifier = lingxi.tasks.TextClassifier.from_preset(MODEL.value)
    else:
        classifier = lingxi.tasks.TextClassifier.from_preset(
            "minilm_l6_en_uncased", labels=["negative", "positive"], max_length=MAX_LENGTH
        )
        classifier.fit(*sst2("train"), epochs=1, seed=1, verbose=2)

    for input in ("text", "ids"):
        print(f"\ninput={input!r}, {MAX_LENGTH} tokens, one text a call")
        print(f"{'':8} {'size':>9} {'of float32':>10} {'latency':>9} {'speed-up':>8} {'dev':>7}")
        first = None
        for quantize in (None, "float16", "int8"):
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "model.tflite"
                report = lingxi.export.tflite(
                    classifier, path, quantize=quantize, input=input, max_length=MAX_LENGTH
                )
                accuracy, latency = measure(lingxi.export.load(path), texts, labels)
            first = first or (report.size, latency)
            print(
                f"{report.precision:8} {report.size / 1e6:6.2f} MB {report.size / first[0]:10.4f} "
                f"{latency * 1e3:6.1f} ms {first[1] / latency:6.2f} x {accuracy:7.4f}"
            )


def measure(artifact, texts, labels):
    """Share of right labels, and median seconds a text."""
    right, times = 0, []
    for text, label in zip(texts, labels, strict=True):
        start = time.perf_counter()
        (answer,) = artifact.classify([text])
        times.append(time.perf_counter() - start)
        right += answer.label == label
    return right / len(texts), statistics.median(times)


if __name__ == "__main__":
    app.run(main)
