"""Train a task on a file of examples, by default a text classifier.

classify and rate: a .csv, .tsv or .jsonl file in UTF-8, a .parquet file, or a directory of these or
of Hugging Face's `datasets`, with a column of texts and a column of labels or numbers. embed: such
a table of pairs that mean the same, or, with a --label_column, of pairs and their similarities from
-1 to 1. tag: a CoNLL file, or JSONL with spans. answer: JSON of SQuAD's form. fill: plain text, in
which blank lines stand between documents.

The output directory appears when training has finished; other commands take it as --model, and the
Auto class of transformers loads it too.
"""

import math
import os
import pathlib
import sys

from absl import app, flags

from lingxi.cli import launch, table_files
from lingxi.cli.command import check_output, new_flags, note
from lingxi.cli.quiet import quiet_tensorflow
from lingxi.data import TableStream
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
flags.DEFINE_float(
    "split",
    None,
    "In place of --validation: hold out this `SHARE` of --data. A text keeps its side when others "
    "are added; --seed chooses other texts.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "bad_rows",
    "stop",
    ["stop", "skip"],
    "What to do if rows of a table cannot be used: stop before training, or go on without them.",
    flag_values=FLAGS,
)
flags.DEFINE_boolean(
    "stream",
    False,
    "classify, rate: read --data while training; for files larger than memory.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "class_weight",
    None,
    ["balanced"],
    "classify: count rare labels more, so that all labels have the same weight.",
    flag_values=FLAGS,
)
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
flags.DEFINE_enum(
    "distribute",
    None,
    ["data_parallel", "model_parallel"],
    "Train on all devices of all processes, by JAX: each has all weights and computes its share of "
    "every batch, or each has its share of the weights. See docs/distributed.md.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "processes",
    1,
    "`N` processes train together; without --coordinator they are started on this machine.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "coordinator",
    None,
    "`HOST:PORT` of process 0, for processes that were started by something else.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "process_id",
    None,
    "Which of the --processes this one is, `K` from 0, with --coordinator.",
    lower_bound=0,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "model_devices",
    None,
    "model_parallel: `N` devices share the weights; by default all.",
    lower_bound=1,
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
FACTS = ("preset", "data", "validation", "batch_size", "learning_rate", "max_length", "seed")


def run(arguments):
    if arguments:
        raise app.UsageError(f"train takes flags only, got {arguments}; see lingxi train --help")
    output = pathlib.Path(FLAGS.output).expanduser().absolute()
    _check_distribution()
    if FLAGS.resume and (output / "config.json").is_file():
        note(f"the training of {FLAGS.output} has finished already")
        return
    if not (FLAGS.resume and (output / "checkpoints").is_dir()):
        check_output(output, FLAGS.overwrite, "config.json", _NAMES[FLAGS.task])
    _check_data_flags()
    if FLAGS.processes > 1 and FLAGS.coordinator is None:
        _launch(output)
        return
    if FLAGS.distribute:
        os.environ["KERAS_BACKEND"] = "jax"
    with launch.among_processes(FLAGS.processes):
        _train(output)


def _train(output):
    settings, data, validation = _DATA[FLAGS.task]()

    with quiet_tensorflow(FLAGS.debug):
        import keras

        from lingxi import tasks, training
        from lingxi.cli.interrupt import StopAtInterrupt, resumable
    kinds = {
        "answer": tasks.QuestionAnswerer,
        "classify": tasks.TextClassifier,
        "embed": tasks.TextEmbedder,
        "fill": tasks.MaskedLanguageModel,
        "rate": tasks.TextRegressor,
        "tag": tasks.TokenClassifier,
    }
    if FLAGS.distribute:
        with quiet_tensorflow(FLAGS.debug):
            training.distribute(
                FLAGS.distribute,
                FLAGS.coordinator,
                FLAGS.processes,
                FLAGS.process_id or 0,
                FLAGS.model_devices,
            )
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
    record = training.RunRecord(None, *_asked(validation), facts=_facts())
    record.set_model(task)  # for a training that had finished, and has only to be saved
    with resumable(checkpoints):
        history = task.fit(
            *data,
            validation_data=validation,
            epochs=FLAGS.epochs,
            batch_size=FLAGS.batch_size,
            seed=FLAGS.seed,
            learning_rate=FLAGS.learning_rate,
            resume=checkpoints,
            callbacks=[StopAtInterrupt(), record],
            verbose=1 if sys.stdout.isatty() else 2,  # in a log file, a line an epoch
            **({"class_weight": FLAGS.class_weight} if FLAGS.class_weight else {}),
        ).history
    if not math.isfinite(history["loss"][-1]):
        raise ValueError("the loss is no longer a number; nothing was saved. Lower --learning_rate")
    with training.whole_weights(task):
        if not training.is_first_process():
            return
        with atomic_path(output) as temporary:  # checkpoints there make room, once all is written
            task.save_preset(temporary)
            record.write(temporary)

    metric = {"rate": "pearson", "tag": "f1"}.get(FLAGS.task, "accuracy")
    metric = metric if metric in history else "pearson"  # of an embedder that learned similarities
    measured, key = ("validation", f"val_{metric}") if validation else ("training", metric)
    print(f"\nSaved to {FLAGS.output}; {measured} {metric} {history[key][-1]:.4f}. Next:")
    examples = {"answer": "--data questions.csv", "fill": '"the [MASK] of a text"'}
    print(f"  lingxi predict --model {FLAGS.output} " + examples.get(FLAGS.task, '"a text"'))
    form = "saved_model" if FLAGS.task in ("answer", "fill", "tag") else "tflite"
    path = "serving/model" if form == "saved_model" else "model.tflite"
    print(f"  lingxi export --model {FLAGS.output} --format {form} --output {path}")
    print(f"  lingxi report {FLAGS.output}")


def _check_distribution():
    if FLAGS.processes > 1 and not FLAGS.distribute:
        raise app.UsageError("--processes needs --distribute=data_parallel or model_parallel")
    if FLAGS.distribute and FLAGS.task in ("fill", "tag"):
        raise app.UsageError(f"--task={FLAGS.task} trains on TensorFlow alone: not by --distribute")
    if (FLAGS.coordinator is None) != (FLAGS.process_id is None):
        raise app.UsageError(
            "--coordinator and --process_id belong together: who is process 0, and which is this"
        )
    if FLAGS.process_id is not None and FLAGS.process_id >= FLAGS.processes:
        raise app.UsageError(
            f"--process_id must be less than --processes={FLAGS.processes}, got {FLAGS.process_id}"
        )


def _launch(output):
    """Have processes of this machine run this command line, each as one of them."""
    address = launch.free_address()
    given = [FLAGS[name].serialize() for name in FLAGS if FLAGS[name].present]
    command = [sys.executable, "-m", "lingxi.cli.main", "train", *given, f"--coordinator={address}"]
    commands = []
    for number in range(FLAGS.processes):
        environment = {"JAX_COORDINATOR_BIND_ADDRESS": address, "JAX_LOCAL_DEVICE_IDS": str(number)}
        commands.append(([*command, f"--process_id={number}"], {**os.environ, **environment}))
    advice = "With --resume a training goes on from its last checkpoint."
    if FLAGS.resume:
        advice = f"The same command goes on from the newest checkpoint in {output / 'checkpoints'}."
    status = launch.launch(commands, advice)
    if status:
        raise SystemExit(status)


def _facts():
    """What a report says of the data and the settings."""
    return {name: FLAGS[name].value for name in FACTS if FLAGS[name].value is not None}


def _asked(validation):
    """The texts that a report shows the answers to, and the right ones; none for most tasks."""
    if validation and FLAGS.task == "tag":
        return [e.text for e in validation], [e.entities for e in validation]
    if validation and FLAGS.task == "classify" and not FLAGS.stream and not FLAGS.distribute:
        return validation
    return ()


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
    data, validation = _tables(FLAGS.label_column, "names" if FLAGS.multi_label else "name")
    labels = FLAGS.labels or _labels_in(data)
    note(f"{len(data)} training examples with {len(labels)} labels: {_listed(labels)}")
    settings = {"labels": labels, "multi_label": FLAGS.multi_label}
    return settings, *_arguments(data, validation)


def _to_rate():
    data, validation = _tables(FLAGS.label_column, "number")
    note(f"{len(data)} training examples")
    return {}, *_arguments(data, validation)


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
    data, validation = _tables(FLAGS.label_column if has_labels else None, "number")
    note(f"{len(data)} training pairs{' with similarities' if has_labels else ''}")
    return {}, *_arguments(data, validation)


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


def _tables(label_column, label_kind):
    """Training and validation examples, or None: of --data and --validation, or both of --data."""
    columns = FLAGS.text_column, FLAGS.pair_column, label_column
    options = {"label_kind": label_kind, "bad_rows": FLAGS.bad_rows}

    def read(path, labels):
        if FLAGS.stream:
            with table_files.listed_rows():
                examples = TableStream(path, *columns, labels=labels, **options)
            table_files.tell(examples.report, "note", "bad")
        else:
            examples = table_files.read(path, *columns, labels=labels, **options)
        table_files.tell(examples.report, "doubtful")
        return examples

    data = read(FLAGS.data, FLAGS.labels)
    if FLAGS.split is not None:
        return data.split(FLAGS.split, FLAGS.seed or 0)
    labels = FLAGS.labels or data.report.labels or None
    return data, FLAGS.validation and read(FLAGS.validation, labels)


def _arguments(data, validation):
    """The arguments of `fit` that two tables are, and its `validation_data`."""
    if FLAGS.stream:
        return (data,), validation
    return (data.texts, data.labels), validation and (validation.texts, validation.labels)


def _check_data_flags():
    tables, task = ("classify", "rate", "embed"), FLAGS.task
    if FLAGS.split is not None and FLAGS.validation:
        raise ValueError("give --validation or --split, not both")
    if FLAGS.split is not None and task not in tables:
        raise ValueError(f"--split is for --task {', '.join(tables)}; give a file of --validation")
    if FLAGS.stream and task not in ("classify", "rate"):
        raise ValueError("--stream is for --task classify and rate")
    if FLAGS.class_weight and (task != "classify" or FLAGS.multi_label):
        raise ValueError("--class_weight is for --task classify without --multi_label")


def _listed(labels):
    return ", ".join(labels[:MAX_NAMED]) + (", …" if len(labels) > MAX_NAMED else "")


def _labels_in(data):
    labels = data.report.labels
    if len(labels) < 2 and not FLAGS.multi_label:
        raise ValueError(f"{data.report.path} has only the label {labels[0]!r}; there must be two")
    return labels
