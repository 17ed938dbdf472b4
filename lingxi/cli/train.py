"""Train a task on a file of examples, by default a text classifier.

classify and rate: a .csv, .tsv or .jsonl file in UTF-8 with a column of texts and a column of
labels or numbers. embed: such a file of pairs that mean the same, or, with a --label_column, of
pairs and their similarities from -1 to 1. tag: a CoNLL file, or JSONL with spans. answer: JSON of
SQuAD's form. fill: plain text, in which blank lines stand between documents.

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
from lingxi.files import atomic_path

FLAGS = new_flags()
flags.DEFINE_enum(
    "task",
    "classify",
    ["classify", "rate", "tag", "answer", "embed", "fill"],
    "What to learn: labels or numbers of texts, entities in texts, answers to questions, "
    "embeddings of texts, or masked words.",
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
flags.DEFINE_boolean(
    "resume",
    False,
    "Write checkpoints to --output while training, and go on from those that are there.",
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
    if FLAGS.resume and (output / "config.json").is_file():
        note(f"the training of {FLAGS.output} has finished already")
        return
    if not (FLAGS.resume and (output / "checkpoints").is_dir()):
        check_output(output, FLAGS.overwrite, "config.json", _NAMES[FLAGS.task])
    settings, data, validation = _DATA[FLAGS.task]()

    with quiet_tensorflow(FLAGS.debug):
        import keras

        from lingxi import tasks
        from lingxi.cli.interrupt import StopAtInterrupt, resumable
    kinds = {
        "answer": tasks.QuestionAnswerer,
        "classify": tasks.TextClassifier,
        "embed": tasks.TextEmbedder,
        "fill": tasks.MaskedLanguageModel,
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
    checkpoints = output if FLAGS.resume else None
    with resumable(checkpoints):
        history = task.fit(
            *data,
            validation_data=validation,
            epochs=FLAGS.epochs,
            batch_size=FLAGS.batch_size,
            seed=FLAGS.seed,
            learning_rate=FLAGS.learning_rate,
            resume=checkpoints,
            callbacks=[StopAtInterrupt()],
            verbose=1 if sys.stdout.isatty() else 2,  # in a log file, a line an epoch
        ).history
    if not math.isfinite(history["loss"][-1]):
        raise ValueError("the loss is no longer a number; nothing was saved. Lower --learning_rate")
    if FLAGS.resume:  # its checkpoints make room, once all is written
        with atomic_path(output) as temporary:
            task.save_preset(temporary)
    else:
        task.save_preset(output)

    metric = {"rate": "pearson", "tag": "f1"}.get(FLAGS.task, "accuracy")
    metric = metric if metric in history else "pearson"  # of an embedder that learned similarities
    measured, key = ("validation", f"val_{metric}") if validation else ("training", metric)
    print(f"\nSaved to {FLAGS.output}; {measured} {metric} {history[key][-1]:.4f}. Next:")
    examples = {"answer": "--data questions.csv", "fill": '"the [MASK] of a text"'}
    print(f"  lingxi predict --model {FLAGS.output} " + examples.get(FLAGS.task, '"a text"'))
    form = "saved_model" if FLAGS.task in ("answer", "fill", "tag") else "tflite"
    path = "serving/model" if form == "saved_model" else "model.tflite"
    print(f"  lingxi export --model {FLAGS.output} --format {form} --output {path}")


_NAMES = {
    "answer": "question answerer",
    "classify": "classifier",
    "embed": "embedder",
    "fill": "masked language model",
    "rate": "regressor",
    "tag": "token classifier",
}


# What each task needs: arguments of `from_preset`, those of `fit`, and its `validation_data`.


def _to_classify():
    data, validation = _tables(FLAGS.multi_label, FLAGS.label_column)
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
    data, validation = _tables(False, FLAGS.label_column)
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


def _to_embed():
    if not FLAGS.pair_column:
        raise ValueError(
            "--task embed learns from pairs of texts: name the second by --pair_column"
        )
    has_labels = FLAGS["label_column"].present
    data, validation = _tables(False, FLAGS.label_column if has_labels else None)
    note(f"{len(data.texts)} training pairs{' with similarities' if has_labels else ''}")

    def arguments(examples):
        return (examples.texts, examples.numbers()) if has_labels else (examples.texts, None)

    return {}, arguments(data), validation and arguments(validation)


def _to_fill():
    data, validation = _files()
    return {}, (data,), validation


_DATA = {
    "answer": _to_answer,
    "classify": _to_classify,
    "embed": _to_embed,
    "fill": _to_fill,
    "rate": _to_rate,
    "tag": _to_tag,
}


def _files():
    """Paths of --data and --validation, or None, which can be read."""
    paths = [name and pathlib.Path(name).expanduser() for name in (FLAGS.data, FLAGS.validation)]
    for path in filter(None, paths):
        path.open("rb").close()
    return paths


def _tables(multi_label, label_column):
    """The `Examples` of --data and --validation, or None."""
    columns = FLAGS.text_column, FLAGS.pair_column, label_column
    data = table_files.read(FLAGS.data, *columns, multi_label)
    return data, FLAGS.validation and table_files.read(FLAGS.validation, *columns, multi_label)


def _listed(labels):
    return ", ".join(labels[:MAX_NAMED]) + (", …" if len(labels) > MAX_NAMED else "")


def _labels_in(data):
    labels = set().union(*data.labels) if FLAGS.multi_label else set(data.labels)
    if len(labels) < 2 and not FLAGS.multi_label:
        raise ValueError(f"{data.path} has only the label {labels.pop()!r}; there must be two")
    return sorted(labels)
