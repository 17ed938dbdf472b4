"""Repeat the proof that an export gives the answers of its task.

Runs texts through the SavedModel or TFLite file and through the task, and compares; exit status 0
where they agree, 1 where they do not or where the export was changed since it was written.
"""

import pathlib

from absl import app, flags

from lingxi.cli import table_files
from lingxi.cli.command import new_flags
from lingxi.cli.quiet import quiet_tensorflow

FLAGS = new_flags()
flags.DEFINE_string(
    "against", None, "`DIR` of the trained task, or the name of a preset.", flag_values=FLAGS
)
flags.DEFINE_string(
    "data",
    None,
    "`FILE` (.csv, .tsv, .jsonl) of texts to compare with; by default lingxi's own.",
    flag_values=FLAGS,
)
flags.DEFINE_string("text_column", "text", "`NAME` of the column of texts.", flag_values=FLAGS)
flags.DEFINE_string(
    "pair_column", None, "`NAME` of the column of second texts, of pairs.", flag_values=FLAGS
)
flags.DEFINE_float(
    "min_agreement",
    None,
    "Least `SHARE` of answers that must equal the task's; by default 1 for float32, and less "
    "for smaller formats.",
    flag_values=FLAGS,
)
REQUIRED = ("against",)
USAGE = "PATH --against DIR [flags]"
EXAMPLES = """
    lingxi verify comments.tflite --against runs/comments
    lingxi verify serving/comments --against runs/comments --data dev.csv
"""


def run(arguments):
    if len(arguments) != 1:
        raise app.UsageError(f"verify takes one path, got {arguments or 'none'}")
    path = pathlib.Path(arguments[0]).expanduser()
    examples = None
    if FLAGS.data:
        examples = table_files.read(FLAGS.data, FLAGS.text_column, FLAGS.pair_column).texts
    with quiet_tensorflow(FLAGS.debug):
        from lingxi import export, tasks

        task = tasks.load(FLAGS.against)
        print(export.verify(task, path, examples, FLAGS.min_agreement))
