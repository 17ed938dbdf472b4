"""Fine-tune a pretrained MiniLM on live-stream comments, ship it three ways, compare them.

    make quickstart
    .venv/bin/python examples/quickstart.py "is this song on the album?" "free gift cards in my bio"

Comments given on the command line are classified at the end; without any, you are asked for some.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import csv
import pathlib
import shutil
import statistics
import sys
import time

import keras

import lingxi

DATA = pathlib.Path(__file__).parent / "live_comments"
RUN = pathlib.Path("runs") / "quickstart"
LABELS = ["praise", "complaint", "question", "spam"]
MAX_LENGTH = 64  # tokens; the longest comment has fewer
EPOCHS, BATCH_SIZE, LEARNING_RATE = 4, 16, 1e-4  # chosen by cross-validation on train.csv
COMMENTS = [
    "this is hands down the cosiest stream on the whole site",
    "your mic has been crackling for ten minutes and nobody is doing anything about it",
    "which brush did you use for the clouds?",
    "earn $900 a day from home, message me for the secret method",
]


def main():
    keras.utils.set_random_seed(1)
    texts, labels = read("train.csv")
    test_texts, test_labels = read("test.csv")

    print(f"Fine-tuning MiniLM on {len(texts)} comments ({', '.join(LABELS)})")
    classifier = lingxi.tasks.TextClassifier.from_preset(
        "minilm_l6_en_uncased", labels=LABELS, max_length=MAX_LENGTH
    )
    classifier.fit(
        texts,
        labels,
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        seed=1,
        verbose=1 if sys.stdout.isatty() else 2,
    )

    print("\nExporting and verifying each artifact on the held-out comments …")
    shutil.rmtree(RUN, ignore_errors=True)
    classifier.save_preset(RUN / "preset")
    reports = [
        lingxi.export.saved_model(classifier, RUN / "saved_model", examples=test_texts),
        lingxi.export.tflite(classifier, RUN / "comments.tflite", examples=test_texts),
        lingxi.export.tflite(
            classifier, RUN / "comments_int8.tflite", quantize="int8", examples=test_texts
        ),
    ]

    # Every way reads the same raw strings, one comment a call, as a server or a phone does.
    weights = (RUN / "preset" / "model.safetensors").stat().st_size
    rows = [("Keras", classifier, weights, None)]
    for name, report in zip(("SavedModel", "TFLite", "TFLite int8"), reports, strict=True):
        artifact = lingxi.export.load(report.path)
        rows.append((name, artifact, report.size, report.label_agreement))
    print(f"\n{len(test_texts)} held-out comments, one at a time:")
    print(f"{'':12} {'accuracy':>9} {'size':>9} {'latency':>9} {'agreement':>10}")
    for name, model, size, agreement in rows:
        accuracy, latency = measure(model, test_texts, test_labels)
        agreement = "" if agreement is None else f"{agreement:.1%}"
        print(
            f"{name:12} {accuracy:9.1%} {size / 1e6:6.1f} MB {latency * 1e3:6.1f} ms "
            f"{agreement:>10}"
        )

    print(f"\nThe TFLite int8 file reads your comments ({RUN / 'comments_int8.tflite'}):")
    artifact = lingxi.export.load(RUN / "comments_int8.tflite")
    for comment in comments_to_classify():
        (answer,) = artifact.classify([comment])
        print(f"  {answer.label:10} {answer.score:4.0%}  {comment}")


def read(name):
    with open(DATA / name, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def measure(model, texts, labels):
    """Share of right labels, and median seconds for one comment."""
    model.classify(texts[:1])
    right, times = 0, []
    for text, label in zip(texts, labels, strict=True):
        start = time.perf_counter()
        (answer,) = model.classify([text])
        times.append(time.perf_counter() - start)
        right += answer.label == label
    return right / len(texts), statistics.median(times)


def comments_to_classify():
    if len(sys.argv) > 1:
        return sys.argv[1:]
    if not sys.stdin.isatty():
        return COMMENTS
    print("Type a comment and press Enter; an empty line ends.")
    return iter(lambda: input("> ").strip(), "")


if __name__ == "__main__":
    main()
