"""What `train` and `tune` learn from: their flags, the examples of each task, and the new task."""

import pathlib

from absl import flags

from lingxi.cli import table_files
from lingxi.cli.command import new_flags, note
from lingxi.cli.quiet import quiet_tensorflow
from lingxi.data import Report, TableStream

FLAGS = new_flags()  # which those of the commands hold, too
flags.DEFINE_enum(
    "task",
    "classify",
    ["classify", "rate", "tag", "answer", "embed", "fill", "generate", "translate", "summarize"],
    "What to learn: labels or numbers of texts, entities in texts, answers to questions, "
    "embeddings of texts, masked words, what follows a text, or one text from another.",
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
    "What to do if rows of a table, tagged sentences or questions cannot be used: stop before "
    "training, or go on without them.",
    flag_values=FLAGS,
)
flags.DEFINE_boolean(
    "stream",
    False,
    "Read --data while training, for files larger than memory: the rows of a table; of generate "
    "and fill the tokens, which are kept on the disk, in --output, or beside it without --resume.",
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
flags.DEFINE_integer(
    "max_length",
    None,
    "Cut texts at `N` tokens; by default at the longest that the preset can take.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("seed", None, "`N`, to draw the same random numbers again.", flag_values=FLAGS)
flags.DEFINE_enum(
    "precision",
    "auto",
    ["auto", "float32", "mixed_bfloat16"],
    "Number format of the computations; auto is mixed_bfloat16 where the machine multiplies in it.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "vocabulary",
    None,
    "`PATH` of a vocab.txt or of a tokenizer's directory, for a preset that has none.",
    flag_values=FLAGS,
)
FLAGS.mark_as_parsed()

NAMES = {  # of what is learned, in messages
    "answer": "question answerer",
    "classify": "classifier",
    "embed": "embedder",
    "fill": "masked language model",
    "generate": "text generator",
    "rate": "regressor",
    "summarize": "summarizer",
    "tag": "token classifier",
    "translate": "translator",
}
OF_PAIRS = ("translate", "summarize")  # tasks that learn to write the second text
OF_TABLES = ("classify", "rate", "embed", *OF_PAIRS)
OF_TEXT = ("generate", "fill")  # those that learn from plain text
MAX_NAMED = 10  # labels to print


def examples():
    """What `--task` needs: arguments of `new_task`, those of `fit`, and its `validation_data`.

    Raises:
        ValueError, OSError: files that cannot be used.
    """
    return _DATA[FLAGS.task]()


def new_task(**settings):
    """The task that is to learn, of `--preset`."""
    from lingxi import tasks, training

    kinds = {
        "answer": tasks.QuestionAnswerer,
        "classify": tasks.TextClassifier,
        "embed": tasks.TextEmbedder,
        "fill": tasks.MaskedLanguageModel,
        "generate": tasks.TextGenerator,
        "rate": tasks.TextRegressor,
        "summarize": tasks.Summarizer,
        "tag": tasks.TokenClassifier,
        "translate": tasks.Translator,
    }
    return kinds[FLAGS.task].from_preset(
        FLAGS.preset,
        max_length=FLAGS.max_length,
        vocabulary=FLAGS.vocabulary,
        dtype=training.fastest_precision() if FLAGS.precision == "auto" else FLAGS.precision,
        **settings,
    )


def keeps_tokens():
    """Whether `fit` needs a directory for the tokens of a text, its argument `cache`."""
    return FLAGS.stream and FLAGS.task in OF_TEXT


def metric():
    """The name of what says how good a task is, among the metrics of its `fit`."""
    learns_similarities = FLAGS.task == "embed" and FLAGS["label_column"].present
    by_task = {"generate": "perplexity", "rate": "pearson", "tag": "f1"}
    return "pearson" if learns_similarities else by_task.get(FLAGS.task, "accuracy")


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
    examples = _rows(read_tagged, data)
    labels = FLAGS.labels or sorted({kind for e in examples for _, _, kind in e.entities})
    if not labels:
        raise ValueError(f"{FLAGS.data} has no entities")
    note(f"{len(examples)} training texts with {len(labels)} types: {_listed(labels)}")
    settings = {"labels": labels, "crf": FLAGS.crf}
    return settings, (examples,), validation and _rows(read_tagged, validation)


def _to_answer():
    data, validation = _files()
    with quiet_tensorflow(FLAGS.debug):
        from lingxi.tasks.squad import read_questions
    validation = validation and _rows(read_questions, validation)
    return {"no_answer": FLAGS.no_answer}, (_rows(read_questions, data),), validation


def _to_embed():
    if not FLAGS.pair_column:
        raise ValueError(
            "--task embed learns from pairs of texts: name the second by --pair_column"
        )
    has_labels = FLAGS["label_column"].present
    data, validation = _tables(FLAGS.label_column if has_labels else None, "number")
    note(f"{len(data)} training pairs{' with similarities' if has_labels else ''}")
    return {}, *_arguments(data, validation)


def _to_read():
    """Of plain text."""
    data, validation = _files()
    return {}, (data,), validation


def _to_write():
    if not FLAGS.pair_column:
        raise ValueError(
            f"--task {FLAGS.task} learns from pairs of texts: name the column of what it shall "
            "write by --pair_column"
        )
    data, validation = _tables(None, "name")
    note(f"{len(data)} training pairs")
    return {}, *_arguments(data, validation)


_DATA = {
    "answer": _to_answer,
    "classify": _to_classify,
    "embed": _to_embed,
    "fill": _to_read,
    "generate": _to_read,
    "rate": _to_rate,
    "summarize": _to_write,
    "tag": _to_tag,
    "translate": _to_write,
}


def _files():
    """Paths of --data and --validation, or None, which can be read."""
    paths = [name and pathlib.Path(name).expanduser() for name in (FLAGS.data, FLAGS.validation)]
    for path in filter(None, paths):
        path.open("rb").close()
    return paths


def _rows(read, path):
    """What a function reads of a file that is no table, and that is told of its bad rows."""
    report = Report(path)
    with table_files.listed_rows():
        examples = read(path, bad_rows=FLAGS.bad_rows, report=report)
    table_files.tell(report, "bad")
    return examples


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


def check():
    """Raise ValueError for flags that contradict each other."""
    task = FLAGS.task
    if FLAGS.split is not None and FLAGS.validation:
        raise ValueError("give --validation or --split, not both")
    if FLAGS.split is not None and task not in OF_TABLES:
        tables = ", ".join(OF_TABLES)
        raise ValueError(f"--split is for --task {tables}; give a file of --validation")
    if FLAGS.stream and task not in (*OF_TABLES, *OF_TEXT):
        tasks = ", ".join((*OF_TABLES, *OF_TEXT))
        raise ValueError(f"--stream is for --task {tasks}, got --task {task}")
    if FLAGS.class_weight and (task != "classify" or FLAGS.multi_label):
        raise ValueError("--class_weight is for --task classify without --multi_label")


def _listed(labels):
    return ", ".join(labels[:MAX_NAMED]) + (", …" if len(labels) > MAX_NAMED else "")


def _labels_in(data):
    labels = data.report.labels
    if len(labels) < 2 and not FLAGS.multi_label:
        raise ValueError(f"{data.report.path} has only the label {labels[0]!r}; there must be two")
    return labels
