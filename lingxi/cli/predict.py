"""Label texts with a trained or exported classifier.

The texts are the arguments, the lines of standard input (-), or a column of a .csv, .tsv or .jsonl
file. Prints label, score and text of each, separated by tabs, or writes them to a file.
"""

import sys

from absl import app, flags

from lingxi.cli import models, table_files
from lingxi.cli.command import check_writable, new_flags

FLAGS = new_flags()
flags.DEFINE_string(
    "model", None, "`PATH` of a trained classifier or of an export.", flag_values=FLAGS
)
flags.DEFINE_string("data", None, "`FILE` with the texts.", flag_values=FLAGS)
flags.DEFINE_string(
    "output",
    None,
    "`FILE` to write, .csv, .tsv or .jsonl (which also has every label's probability).",
    flag_values=FLAGS,
)
flags.DEFINE_string("text_column", "text", "`NAME` of the column of texts.", flag_values=FLAGS)
flags.DEFINE_string(
    "pair_column", None, "`NAME` of the column of second texts, for pairs.", flag_values=FLAGS
)
REQUIRED = ("model",)
USAGE = "--model PATH (TEXT … | - | --data FILE) [flags]"
EXAMPLES = """
    lingxi predict --model runs/comments "what a lovely stream" "the sound is broken"
    tail -n 100 chat.log | lingxi predict --model comments.tflite -
    lingxi predict --model runs/comments --data comments.csv --output labelled.jsonl
"""


def run(arguments):
    if FLAGS.output:
        table_files.kind(FLAGS.output)
        check_writable(FLAGS.output)
    texts = _texts(arguments)
    if not texts:
        return
    answers = models.load(FLAGS.model, FLAGS.debug).classify(texts)
    if FLAGS.output:
        in_full = table_files.kind(FLAGS.output) == ".jsonl"
        rows = zip(texts, answers, strict=True)
        table_files.write(FLAGS.output, [_row(text, answer, in_full) for text, answer in rows])
        print(f"Wrote {len(texts)} predictions to {FLAGS.output}")
        return
    for text, answer in zip(texts, answers, strict=True):
        fields = (_label(answer), f"{answer.score:.4f}", *_parts(text))
        print("\t".join(map(table_files.one_line, fields)))


def _texts(arguments):
    if bool(arguments) == (FLAGS.data is not None):
        raise app.UsageError(
            "predict takes texts, - for the lines of standard input, or --data; give one of them"
        )
    if FLAGS.data:
        return table_files.read(FLAGS.data, FLAGS.text_column, FLAGS.pair_column).texts
    if arguments == ["-"]:
        return [line.rstrip("\r\n") for line in sys.stdin]
    return arguments


def _row(text, answer, in_full):
    names = ("text", "pair")
    row = {
        **dict(zip(names, _parts(text), strict=False)),
        "label": _label(answer),
        "score": round(answer.score, 6),
    }
    return {**row, "probabilities": answer.probabilities} if in_full else row


def _parts(text):
    return (text,) if isinstance(text, str) else text


def _label(answer):
    return table_files.LABEL_SEPARATOR.join(answer.labels) or answer.label
