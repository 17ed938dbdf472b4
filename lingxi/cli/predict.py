"""Answers of a trained or exported task: labels, entities, answers, numbers, vectors or texts.

The texts are the arguments, the lines of standard input (-), or a column of a .csv, .tsv or .jsonl
file. Prints what the task answers and then the text, separated by tabs, or writes them to a file.
Of a question answerer, --text_column holds the questions and --pair_column the contexts.
"""

import sys

from absl import app, flags

from lingxi.cli import models, predictions, table_files
from lingxi.cli.command import check_writable, new_flags

FLAGS = new_flags()
flags.DEFINE_string("model", None, "`PATH` of a trained task or of an export.", flag_values=FLAGS)
flags.DEFINE_string(
    "head", None, "`NAME` of the task, of a model that has several.", flag_values=FLAGS
)
flags.DEFINE_string("data", None, "`FILE` with the texts.", flag_values=FLAGS)
flags.DEFINE_string(
    "output",
    None,
    "`FILE` to write, .csv, .tsv or .jsonl (a line for each text, with all that is known of it).",
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
    lingxi predict --model runs/names "Ada Lovelace met him in London."
"""


def run(arguments):
    if FLAGS.output:
        table_files.kind(FLAGS.output)
        check_writable(FLAGS.output)
    texts = _texts(arguments)
    if not texts:
        return
    model = models.load(FLAGS.model, FLAGS.debug, FLAGS.head)
    if model.verb == "match":
        raise app.UsageError("a feature matcher takes two pictures: lingxi match --model PATH A B")
    if model.verb == "answer" and isinstance(texts[0], str):
        raise app.UsageError(
            "a question answerer takes questions and contexts: --data FILE --text_column question "
            "--pair_column context"
        )
    in_full = bool(FLAGS.output) and table_files.kind(FLAGS.output) == ".jsonl"
    rows = predictions.rows(model.verb, texts, model(texts), in_full)
    if FLAGS.output:
        if not rows:
            raise ValueError(f"the model finds nothing in these texts; {FLAGS.output} not written")
        table_files.write(FLAGS.output, rows)
        print(f"Wrote {len(rows)} predictions to {FLAGS.output}")
        return
    names = predictions.PAIRS.get(model.verb, ("text", "pair"))
    for row in rows:
        given = [row.pop(name) for name in names if name in row]
        fields = [f"{v:.4f}" if isinstance(v, float) else v for v in row.values()]
        print("\t".join(map(table_files.one_line, (*fields, *given))))


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
