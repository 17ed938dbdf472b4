"""Train a text classifier on a table of texts and labels.

The table is a .csv, .tsv or .jsonl file in UTF-8 with a column of texts and a column of labels.
The output directory appears when training has finished; other commands take it as --model, and
transformers.AutoModelForSequenceClassification loads it too.
"""

import math
import pathlib
import sys

from absl import app, flags

from lingxi.cli import table_files
from lingxi.cli.command import check_output, new_flags, note
from lingxi.cli.quiet import quiet_tensorflow

FLAGS = new_flags()
flags.DEFINE_string("data", None, "`FILE` with the training examples.", flag_values=FLAGS)
flags.DEFINE_string("validation", None, "`FILE` to measure on after each epoch.", flag_values=FLAGS)
flags.DEFINE_string(
    "preset",
    None,
    "`PRESET` to start from: a name of `lingxi list`, a directory, or hf://owner/name.",
    flag_values=FLAGS,
)
flags.DEFINE_string("output", None, "`DIR` to save the classifier in.", flag_values=FLAGS)
flags.DEFINE_boolean(
    "overwrite", False, "Replace the classifier in --output if there is one.", flag_values=FLAGS
)
flags.DEFINE_string("text_column", "text", "`NAME` of the column of texts.", flag_values=FLAGS)
flags.DEFINE_string(
    "pair_column", None, "`NAME` of the column of second texts, for pairs.", flag_values=FLAGS
)
flags.DEFINE_string("label_column", "label", "`NAME` of the column of labels.", flag_values=FLAGS)
flags.DEFINE_list(
    "labels", None, "Label names `A,B`; by default those in --data, sorted.", flag_values=FLAGS
)
flags.DEFINE_boolean(
    "multi_label", False, "A text may have several labels, joined by |, or none.", flag_values=FLAGS
)
flags.DEFINE_integer("epochs", 3, "Passes over the data, `N`.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("batch_size", 32, "Texts a step, `N`.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_float(
    "learning_rate",
    5e-5,
    "`RATE` at the peak; it rises over a tenth of the steps, then falls to zero.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "max_length",
    None,
    "Cut texts at `N` tokens; by default at the longest that the preset can take.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("seed", None, "`N`, to draw the same random numbers again.", flag_values=FLAGS)
flags.DEFINE_enum(
    "precision",
    "float32",
    ["float32", "mixed_bfloat16"],
    "Number format of the computations.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "vocabulary",
    None,
    "`PATH` of a vocab.txt or of a tokenizer's directory, for a preset that has none.",
    flag_values=FLAGS,
)
REQUIRED = ("data", "preset", "output")
USAGE = "--data FILE --preset PRESET --output DIR [flags]"
EXAMPLES = """
    lingxi train --data train.csv --validation dev.csv --preset minilm_l6_en_uncased \\
        --output runs/comments --epochs 5
"""
MAX_NAMED = 10  # labels to print


def run(arguments):
    if arguments:
        raise app.UsageError(f"train takes flags only, got {arguments}; see lingxi train --help")
    output = pathlib.Path(FLAGS.output).expanduser().absolute()
    check_output(output, FLAGS.overwrite, "config.json", "classifier")
    data = _read(FLAGS.data)
    validation = _read(FLAGS.validation) if FLAGS.validation else None
    labels = FLAGS.labels or _labels_in(data)
    for examples in filter(None, (data, validation)):
        examples.check_labels(labels)
    names = ", ".join(labels[:MAX_NAMED]) + (", …" if len(labels) > MAX_NAMED else "")
    note(f"{len(data.texts)} training examples with {len(labels)} labels: {names}")

    with quiet_tensorflow(FLAGS.debug):
        import keras

        from lingxi.tasks import TextClassifier
    if FLAGS.seed is not None:
        keras.utils.set_random_seed(FLAGS.seed)
    classifier = TextClassifier.from_preset(
        FLAGS.preset,
        labels=labels,
        multi_label=FLAGS.multi_label,
        max_length=FLAGS.max_length,
        vocabulary=FLAGS.vocabulary,
        dtype=FLAGS.precision,
    )
    history = classifier.fit(
        data.texts,
        data.labels,
        validation_data=validation and (validation.texts, validation.labels),
        epochs=FLAGS.epochs,
        batch_size=FLAGS.batch_size,
        seed=FLAGS.seed,
        learning_rate=FLAGS.learning_rate,
        verbose=1 if sys.stdout.isatty() else 2,  # in a log file, a line an epoch
    ).history
    if not math.isfinite(history["loss"][-1]):
        raise ValueError("the loss is no longer a number; nothing was saved. Lower --learning_rate")
    classifier.save_preset(output)

    measured, key = ("validation", "val_accuracy") if validation else ("training", "accuracy")
    print(f"\nSaved to {FLAGS.output}; {measured} accuracy {history[key][-1]:.4f}. Next:")
    print(f'  lingxi predict --model {FLAGS.output} "a text"')
    print(f"  lingxi export --model {FLAGS.output} --format tflite --output model.tflite")


def _read(path):
    return table_files.read(
        path, FLAGS.text_column, FLAGS.pair_column, FLAGS.label_column, FLAGS.multi_label
    )


def _labels_in(data):
    labels = set().union(*data.labels) if FLAGS.multi_label else set(data.labels)
    if len(labels) < 2 and not FLAGS.multi_label:
        raise ValueError(f"{data.path} has only the label {labels.pop()!r}; there must be two")
    return sorted(labels)
