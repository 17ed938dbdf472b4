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

import numpy as np
from absl import app, flags

from lingxi.cli import models, table_files
from lingxi.cli.command import new_flags, table

FLAGS = new_flags()
flags.DEFINE_string("model", None, "`PATH` of a trained task or of an export.", flag_values=FLAGS)
flags.DEFINE_string(
    "head", None, "`NAME` of the task, of a model that has several.", flag_values=FLAGS
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
    lingxi evaluate --model runs/embedder --data sts.tsv --text_column a --pair_column b
"""


def run(arguments):
    if arguments:
        raise app.UsageError(f"evaluate takes flags only, got {arguments}")
    pathlib.Path(FLAGS.data).expanduser().open("rb").close()  # before the model is loaded
    model = models.load(FLAGS.model, FLAGS.debug, FLAGS.head)
    if model.verb not in _MEASURES:
        raise ValueError(
            f"{FLAGS.model} is a {model.kind}; evaluate takes tasks that {', '.join(_MEASURES)}"
        )
    report = _MEASURES[model.verb](model)
    print(json.dumps(report, ensure_ascii=False) if FLAGS.json else _readable(report))


def _classify(model):
    labels, multi_label = model.facts["labels"], model.facts["multi_label"]
    examples = table_files.read(
        FLAGS.data, FLAGS.text_column, FLAGS.pair_column, FLAGS.label_column, multi_label
    )
    examples.check_labels(labels)
    answers = model(examples.texts)
    probabilities = np.array([list(answer.probabilities.values()) for answer in answers])
    targets = np.array(
        [
            [name in names if multi_label else name == names for name in labels]
            for names in examples.labels
        ]
    )
    return measure(targets, probabilities, labels, multi_label)


def _tag(model):
    from lingxi.tasks.tagged_data import read_tagged

    examples = read_tagged(pathlib.Path(FLAGS.data).expanduser())
    answers = model([example.text for example in examples])
    found = {(i, e.start, e.end, e.label) for i, row in enumerate(answers) for e in row}
    wanted = {(i, *entity) for i, example in enumerate(examples) for entity in example.entities}
    types = sorted({kind for *_, kind in found | wanted})
    by_type = {kind: _entity_scores(found, wanted, {kind}) for kind in types}
    overall = _entity_scores(found, wanted, set(types))
    return {"examples": len(examples), **overall, "labels": by_type}


def _entity_scores(found, wanted, types):
    """Of entities of these types; one is right if its place and its type are."""
    found = {entity for entity in found if entity[-1] in types}
    wanted = {entity for entity in wanted if entity[-1] in types}
    hits = len(found & wanted)
    return {
        "precision": hits / max(len(found), 1),
        "recall": hits / max(len(wanted), 1),
        "f1": 2 * hits / max(len(found) + len(wanted), 1),
        "support": len(wanted),
    }


def _answer(model):
    from lingxi.tasks import squad

    questions = squad.read_questions(FLAGS.data)
    answers = model([(question.question, question.context) for question in questions])
    chinese = squad.are_chinese([question.context for question in questions])
    wanted = [[text for text, _ in question.answers] for question in questions]
    scores = squad.scores([answer.text for answer in answers], wanted, chinese)
    return {"examples": len(questions), **scores}


def _rate(model):
    examples = table_files.read(
        FLAGS.data, FLAGS.text_column, FLAGS.pair_column, FLAGS.label_column
    )
    found, wanted = np.array(model(examples.texts)), np.array(examples.numbers())
    return {
        "examples": len(wanted),
        "mae": float(np.mean(np.abs(found - wanted))),
        **correlations(found, wanted),
    }


def _embed(model):
    if not FLAGS.pair_column:
        raise ValueError(
            "an embedder is measured on pairs of texts and their similarities: name the column of "
            "the second texts by --pair_column"
        )
    examples = table_files.read(
        FLAGS.data, FLAGS.text_column, FLAGS.pair_column, FLAGS.label_column
    )
    first, second = (np.array(model(list(side))) for side in zip(*examples.texts, strict=True))
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines = np.sum(first * second, axis=1) / np.maximum(lengths, 1e-12)
    wanted = np.array(examples.numbers())
    return {"examples": len(wanted), **correlations(cosines, wanted)}


_MEASURES = {"answer": _answer, "classify": _classify, "embed": _embed, "rate": _rate, "tag": _tag}


def correlations(found, wanted):
    """Pearson's and Spearman's, 0 where all numbers of a side are equal."""
    return {
        "pearson": _pearson(found, wanted),
        "spearman": _pearson(_ranks(found), _ranks(wanted)),
    }


def _pearson(a, b):
    a, b = a - np.mean(a), b - np.mean(b)
    return float(np.sum(a * b) / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))


def _ranks(values):
    """The place of each in their order; of equal ones the mean of their places."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


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
