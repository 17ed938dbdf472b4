"""A MiniLM trained on SST-2 in each format: size, latency, dev accuracy, agreement with Keras.

    python benchmarks/formats.py [--model=DIR]

DIR: a preset that was trained before; without it, one is trained first. One raw text a call; the
first row of each group is what the others are compared with.
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
QUANTIZATIONS = (None, "float16", "int8")
GROUPS = {  # name: an export and its options, of each row
    "SavedModel": [("saved_model", {"precision": p}) for p in ("float32", "bfloat16")],
    "TFLite, text in": [("tflite", {"quantize": q}) for q in QUANTIZATIONS],
    "TFLite, ids in": [("tflite", {"quantize": q, "input": "ids"}) for q in QUANTIZATIONS],
}


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
    expected = [answer.label for answer in classifier.classify(texts)]
    print(f"Keras: dev accuracy {share(expected, labels):.4f}; {MAX_LENGTH} tokens at most")

    for group, exports in GROUPS.items():
        print(f"\n{group:15} {'size':>9} {'of first':>8} {'latency':>9} {'speed-up':>8}", end="")
        print(f" {'dev':>7} {'agreement':>9}")
        first = None
        for form, options in exports:
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / ("model.tflite" if form == "tflite" else "model")
                export = getattr(lingxi.export, form)
                report = export(classifier, path, max_length=MAX_LENGTH, **options)
                found, latency = answers(lingxi.export.load(path), texts)
            first = first or (report.size, latency)
            print(
                f"{report.precision:15} {report.size / 1e6:6.2f} MB {report.size / first[0]:8.4f} "
                f"{latency * 1e3:6.1f} ms {first[1] / latency:6.2f} x {share(found, labels):7.4f} "
                f"{share(found, expected):9.4f}",
                flush=True,
            )


def answers(artifact, texts):
    """The label of each text, and median seconds a text."""
    found, times = [], []
    for text in texts:
        start = time.perf_counter()
        (answer,) = artifact.classify([text])
        times.append(time.perf_counter() - start)
        found.append(answer.label)
    return found, statistics.median(times)


def share(found, wanted):
    """Of equal labels."""
    return statistics.mean(a == b for a, b in zip(found, wanted, strict=True))


if __name__ == "__main__":
    app.run(main)
