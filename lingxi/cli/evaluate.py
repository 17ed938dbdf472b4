"""Measure a trained or exported task on data with the right answers.

Of a classifier: the accuracy, the loss (cross-entropy), and the precision, recall, F1 and support
of each label, on a table of texts and labels. Of a token classifier: precision, recall and F1 of
whole entities, on a CoNLL or JSONL file. Of a question answerer: exact match and F1, on a file of
SQuAD's form. Of a regressor: the mean absolute error, and Pearson's and Spearman's correlation, on
a table of texts and numbers. Of an embedder: how the cosines of pairs correlate with numbers, on a
table of pairs. The same numbers for a task and for its export show what quantization costs.
"""

import json
import pathlib

from absl import app, flags

from lingxi.cli import labelled, models
from lingxi.cli.command import new_flags, table
from lingxi.export import quality

FLAGS = new_flags()
flags.DEFINE_string("model", None, "`PATH` of a trained task or of an export.", flag_values=FLAGS)
flags.DEFINE_string(
    "head", None, "`NAME` of the task, of a model that has several.", flag_values=FLAGS
)
flags.DEFINE_string("data", None, "`FILE` with the examples.", flag_values=FLAGS)
labelled.define_columns(FLAGS)
flags.DEFINE_boolean("json", False, "Print one JSON object.", flag_values=FLAGS)
REQUIRED = ("model", "data")
USAGE = "--model PATH --data FILE [flags]"
EXAMPLES = """
    lingxi evaluate --model runs/comments --data test.csv
    lingxi evaluate --model comments.tflite --data test.csv --json
    lingxi evaluate --model runs/embedder --data sts.tsv --text_column a --pair_column b
"""


def run(arguments):
    if arguments:
        raise app.UsageError(f"evaluate takes flags only, got {arguments}")
    pathlib.Path(FLAGS.data).expanduser().open("rb").close()  # before the model is loaded
    model = models.load(FLAGS.model, FLAGS.debug, FLAGS.head)
    if model.verb not in quality.MAIN:
        raise ValueError(
            f"{FLAGS.model} is a {model.kind}; evaluate takes tasks that {', '.join(quality.MAIN)}"
        )
    inputs, wanted = labelled.read(FLAGS.data, model.verb, model.facts, FLAGS)
    report = quality.measured(model.task, model.verb, model.facts, inputs, wanted)
    print(json.dumps(report, ensure_ascii=False) if FLAGS.json else _readable(report))


def _readable(report):
    names = {
        "macro_f1": "macro F1",
        "exact_match": "exact match",
        "f1": "F1",
        "mae": "mean absolute error",
    }
    summary = [
        (names.get(name, name), f"{value:.4f}" if isinstance(value, float) else str(value))
        for name, value in report.items()
        if name not in ("examples", "support", "labels")
    ]
    summary.append(("examples", str(report["examples"])))
    if "labels" not in report:
        return table(summary)
    rows = [("label", "precision", "recall", "F1", "support")]
    for label, values in report["labels"].items():
        ratios = (f"{values[key]:.4f}" for key in ("precision", "recall", "f1"))
        rows.append((label, *ratios, str(values["support"])))
    return f"{table(summary)}\n\n{table(rows)}"
