"""Measure a trained or exported classifier on a table of texts and labels.

Prints the accuracy, the loss (cross-entropy), and the precision, recall, F1 and support of each
label. The same numbers for a classifier and for its export show what quantization costs.
"""

import json

import numpy as np
from absl import app, flags

from lingxi.cli import models, table_files
from lingxi.cli.command import new_flags, table

FLAGS = new_flags()
flags.DEFINE_string(
    "model", None, "`PATH` of a trained classifier or of an export.", flag_values=FLAGS
)
flags.DEFINE_string("data", None, "`FILE` with the examples.", flag_values=FLAGS)
flags.DEFINE_string("text_column", "text", "`NAME` of the column of texts.", flag_values=FLAGS)
flags.DEFINE_string(
    "pair_column", None, "`NAME` of the column of second texts, for pairs.", flag_values=FLAGS
)
flags.DEFINE_string("label_column", "label", "`NAME` of the column of labels.", flag_values=FLAGS)
flags.DEFINE_boolean("json", False, "Print one JSON object.", flag_values=FLAGS)
REQUIRED = ("model", "data")
USAGE = "--model PATH --data FILE [flags]"
EXAMPLES = """
    lingxi evaluate --model runs/comments --data test.csv
    lingxi evaluate --model comments.tflite --data test.csv --json
"""


def run(arguments):
    if arguments:
        raise app.UsageError(f"evaluate takes flags only, got {arguments}")
    table_files.check_readable(FLAGS.data)
    model = models.load(FLAGS.model, FLAGS.debug)
    examples = table_files.read(
        FLAGS.data, FLAGS.text_column, FLAGS.pair_column, FLAGS.label_column, model.multi_label
    )
    examples.check_labels(model.labels)
    answers = model.classify(examples.texts)
    probabilities = np.array([list(answer.probabilities.values()) for answer in answers])
    targets = np.array(
        [
            [name in names if model.multi_label else name == names for name in model.labels]
            for names in examples.labels
        ]
    )
    report = measure(targets, probabilities, model.labels, model.multi_label)
    print(json.dumps(report, ensure_ascii=False) if FLAGS.json else _readable(report))


def measure(targets, probabilities, labels, multi_label):
    """The measures of predictions, as a dict.

    Args:
        targets: bool `[examples, labels]`.
        probabilities: float `[examples, labels]`.
        labels: names.
        multi_label: each label is a decision of its own; accuracy and loss are over all of them.
    """
    likelihoods = np.where(targets, probabilities, 1 - probabilities)
    if multi_label:
        predictions = probabilities >= 0.5
        accuracy = np.mean(predictions == targets)
    else:
        predictions = np.eye(len(labels), dtype=bool)[probabilities.argmax(-1)]
        accuracy = np.mean(predictions[targets])
        likelihoods = likelihoods[targets]
    hits, guesses, support = (
        values.sum(axis=0) for values in (predictions & targets, predictions, targets)
    )
    precision = _ratio(hits, guesses)
    recall = _ratio(hits, support)
    f1 = _ratio(2 * hits, guesses + support)
    return {
        "examples": len(targets),
        "accuracy": float(accuracy),
        "loss": float(-np.mean(np.log(np.maximum(likelihoods, np.finfo("float32").tiny)))),
        "macro_f1": float(np.mean(f1)),
        "labels": {
            label: {
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "support": int(support[index]),
            }
            for index, label in enumerate(labels)
        },
    }


def _ratio(numerator, denominator):
    """Elementwise; 0 where there is nothing to divide by."""
    return numerator / np.maximum(denominator, 1)


def _readable(report):
    rows = [("label", "precision", "recall", "F1", "support")]
    for label, values in report["labels"].items():
        ratios = (f"{values[key]:.4f}" for key in ("precision", "recall", "f1"))
        rows.append((label, *ratios, str(values["support"])))
    summary = [
        ("accuracy", f"{report['accuracy']:.4f}"),
        ("loss", f"{report['loss']:.4f}"),
        ("macro F1", f"{report['macro_f1']:.4f}"),
        ("examples", str(report["examples"])),
    ]
    return f"{table(summary)}\n\n{table(rows)}"
