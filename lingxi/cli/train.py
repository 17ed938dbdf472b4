"""Train a task on a file of examples, by default a text classifier.

classify and rate: a .csv, .tsv or .jsonl file in UTF-8 with a column of texts and a column of
labels or numbers. tag: a CoNLL file, or JSONL with spans. answer: JSON of SQuAD's form.

The output directory appears when training has finished; other commands take it as --model, and the
Auto class of transformers loads it too.
"""

import math
import pathlib
import sys

from absl import app, flags

from lingxi.cli import table_files
from lingxi.cli.command import check_output, new_flags, note
from lingxi.cli.quiet import quiet_tensorflow

FLAGS = new_flags()
flags.DEFINE_enum(
    "task",
    "classify",
    ["classify", "rate", "tag", "answer"],
    "What to learn: labels or numbers of texts, entities in texts, or answers to questions.",
    flag_values=FLAGS,
)
flags.DEFINE_string("data", None, "`FILE` with the training examples.", flag_values=FLAGS)
flags.DEFINE_string("validation", None, "`FILE` to measure on after each epoch.", flag_values=FLAGS)
flags.DEFINE_string(
    "preset",
    None,
    "`PRESET` to start from: a name of `lingxi list`, a directory, or hf://owner/name.",
    flag_values=FLAGS,
)
flags.DEFINE_string("output", None, "`DIR` to save the task in.", flag_values=FLAGS)
flags.DEFINE_boolean(
    "overwrite", False, "Replace the task in --output if there is one.", flag_values=FLAGS
)
flags.DEFINE_string("text_column", "text", "`NAME` of the column of texts.", flag_values=FLAGS)
flags.DEFINE_string(
    "pair_column", None, "`NAME` of the column of second texts, for pairs.", flag_values=FLAGS
)
flags.DEFINE_string("label_column", "label", "`NAME` of the column of labels.", flag_values=FLAGS)
flags.DEFINE_list(
    "labels",
    None,
    "Label names or entity types `A,B`; by default those in --data, sorted.",
    flag_values=FLAGS,
)
flags.DEFINE_boolean(
    "multi_label", False, "A text may have several labels, joined by |, or none.", flag_values=FLAGS
)
flags.DEFINE_boolean(
    "crf", False, "tag: learn what tag follows which, by a CRF.", flag_values=FLAGS
)
flags.DEFINE_boolean(
    "no_answer", False, "answer: a text may have no answer, as in SQuAD 2.0.", flag_values=FLAGS
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
    lingxi train --task tag --data train.conll --validation dev.conll \\
        --preset minilm_l6_en_uncased --output runs/names --learning_rate 1e-4
"""
MAX_NAMED = 10  # labels to print


def run(arguments):
    if arguments:
        raise app.UsageError(f"train takes flags only, got {arguments}; see lingxi train --help")
    output = pathlib.Path(FLAGS.output).expanduser().absolute()
    check_output(output, FLAGS.overwrite, "config.json", _NAMES[FLAGS.task])
    settings, data, validation = _DATA[FLAGS.task]()

    with quiet_tensorflow(FLAGS.debug):
        import keras

        from lingxi import tasks
        from lingxi.cli.interrupt import StopAtInterrupt
    kinds = {
        "answer": tasks.QuestionAnswerer,
        "classify": tasks.TextClassifier,
        "rate": tasks.TextRegressor,
        "tag": tasks.TokenClassifier,
    }
    if FLAGS.seed is not None:
        keras.utils.set_random_seed(FLAGS.seed)
    task = kinds[FLAGS.task].from_preset(
        FLAGS.preset,
        max_length=FLAGS.max_length,
        vocabulary=FLAGS.vocabulary,
        dtype=FLAGS.precision,
        **settings,
    )
    history = task.fit(
        *data,
        validation_data=validation,
        epochs=FLAGS.epochs,
        batch_size=FLAGS.batch_size,
        seed=FLAGS.seed,
        learning_rate=FLAGS.learning_rate,
        callbacks=[StopAtInterrupt()],
        verbose=1 if sys.stdout.isatty() else 2,  # in a log file, a line an epoch
    ).history
    if not math.isfinite(history["loss"][-1]):
        raise ValueError("the loss is no longer a number; nothing was saved. Lower --learning_rate")
    task.save_preset(output)

    metric = {"rate": "pearson", "tag": "f1"}.get(FLAGS.task, "accuracy")
    measured, key = ("validation", f"val_{metric}") if validation else ("training", metric)
    print(f"\nSaved to {FLAGS.output}; {measured} {metric} {history[key][-1]:.4f}. Next:")
    question = " --data questions.csv" if FLAGS.task == "answer" else ' "a text"'
    print(f"  lingxi predict --model {FLAGS.output}{question}")
    form = "saved_model" if FLAGS.task in ("answer", "tag") else "tflite"
    path = "serving/model" if form == "saved_model" else "model.tflite"
    print(f"  lingxi export --model {FLAGS.output} --format {form} --output {path}")


_NAMES = {
    "answer": "question answerer",
    "classify": "classifier",
    "rate": "regressor",
    "tag": "token classifier",
}


# What each task needs: arguments of `from_preset`, those of `fit`, and its `validation_data`.


def _to_classify():
    data, validation = _tables(FLAGS.multi_label)
    labels = FLAGS.labels or _labels_in(data)
    for examples in filter(None, (data, validation)):
        examples.check_labels(labels)
    note(f"{len(data.texts)} training examples with {len(labels)} labels: {_listed(labels)}")
    settings = {"labels": labels, "multi_label": FLAGS.multi_label}
    return (
        settings,
        (data.texts, data.labels),
        validation and (validation.texts, validation.labels),
    )


def _to_rate():
    data, validation = _tables(multi_label=False)
    note(f"{len(data.texts)} training examples")
    return (
        {},
        (data.texts, data.numbers()),
        validation and (validation.texts, validation.numbers()),
    )


def _to_tag():
    data, validation = _files()
    with quiet_tensorflow(FLAGS.debug):
        from lingxi.tasks.tagged_data import read_tagged
    examples = read_tagged(data)
    labels = FLAGS.labels or sorted({kind for e in examples for _, _, kind in e.entities})
    if not labels:
        raise ValueError(f"{FLAGS.data} has no entities")
    note(f"{len(examples)} training texts with {len(labels)} types: {_listed(labels)}")
    settings = {"labels": labels, "crf": FLAGS.crf}
    return settings, (examples,), validation and read_tagged(validation)


def _to_answer():
    data, validation = _files()
    return {"no_answer": FLAGS.no_answer}, (str(data),), validation and str(validation)


_DATA = {"answer": _to_answer, "classify": _to_classify, "rate": _to_rate, "tag": _to_tag}


def _files():
    """Paths of --data and --validation, or None, which can be read."""
    paths = [name and pathlib.Path(name).expanduser() for name in (FLAGS.data, FLAGS.validation)]
    for path in filter(None, paths):
        path.open("rb").close()
    return paths


def _tables(multi_label):
    """The `Examples` of --data and --validation, or None."""
    columns = FLAGS.text_column, FLAGS.pair_column, FLAGS.label_column
    data = table_files.read(FLAGS.data, *columns, multi_label)
    return data, FLAGS.validation and table_files.read(FLAGS.validation, *columns, multi_label)


def _listed(labels):
    return ", ".join(labels[:MAX_NAMED]) + (", …" if len(labels) > MAX_NAMED else "")


def _labels_in(data):
    labels = set().union(*data.labels) if FLAGS.multi_label else set(data.labels)
    if len(labels) < 2 and not FLAGS.multi_label:
        raise ValueError(f"{data.path} has only the label {labels.pop()!r}; there must be two")
    return sorted(labels)
