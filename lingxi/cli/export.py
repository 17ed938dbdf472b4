"""Export a trained task as a SavedModel (servers), a TFLite (phones) or an ONNX file.

The export takes raw text, tokenizer included, and its answers are compared with the task's. Tasks
that read long texts in windows need --input ids for TFLite: lingxi then tokenizes for the file, as
it does for all ONNX files.

lingxi export sweep writes a TFLite file in each number format to the directory --output, measures
size, latency and, on --data, the quality of each, prints and draws them, and names the smallest
whose quality is at most --max_drop below the task's; with --format saved_model it writes
SavedModels, and names the fastest.
"""

import json
import pathlib

from absl import app, flags

from lingxi.cli import labelled, models
from lingxi.cli.command import check_writable, new_flags
from lingxi.cli.quiet import quiet_tensorflow

FLAGS = new_flags()
flags.DEFINE_string("model", None, "`DIR` of a trained task.", flag_values=FLAGS)
flags.DEFINE_string(
    "head",
    None,
    "`NAME` of one task of a model that has several; a SavedModel takes all of them without it.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "format",
    None,
    ["saved_model", "tflite", "onnx"],
    "What to write; required, but for a sweep, which writes tflite by default, or saved_model.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "output",
    None,
    "`PATH` to write: a directory for saved_model and sweep, else a file.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "precision",
    "float32",
    ["float32", "bfloat16", "int8_weights"],
    "Number format of a SavedModel; bfloat16 is fast on recent CPUs and GPUs, int8_weights small.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "target",
    "any",
    ["any", "cpu", "gpu"],
    "Machine of a SavedModel: cpu has weights in the graph, gpu is compiled by XLA.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "quantize",
    "none",
    ["none", "float16", "int8", "int8_weights", "int8_static", "int4"],
    "Number format of a TFLite file's weights; int8 is 4 times smaller, and faster. int8_static "
    "calibrates on the texts of --data.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "recipe",
    None,
    "`FILE.json` of number formats by layer, in place of --quantize: "
    '{"embedding": "int4", "*": "int8"}.',
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "input",
    "text",
    ["text", "ids", "mediapipe"],
    "What a TFLite file takes; ids where the app tokenizes, or the tokenizer is not BERT's; "
    "mediapipe for MediaPipe Tasks, which tokenizes with the vocabulary in the file.",
    flag_values=FLAGS,
)
flags.DEFINE_boolean("pairs", False, "Take pairs of texts.", flag_values=FLAGS)
flags.DEFINE_integer(
    "max_length",
    None,
    "Cut texts at `N` tokens, and in a TFLite file pad them to it; by default the task's.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "lengths",
    None,
    "In place of --max_length: `N,N,…`, of which a TFLite file takes the shortest that fits.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "batch_size",
    "1",
    "Texts of a call of a TFLite file: a number, or any.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "size",
    None,
    "`HEIGHT,WIDTH` of the pictures that a TFLite file of a feature matcher takes.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "min_agreement",
    None,
    "Least `SHARE` of answers that must equal the task's; by default 1 for float32, and less "
    "for smaller formats.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "card",
    None,
    "`FILE.json` of what the export shall say of itself: training_data, metrics, ….",
    flag_values=FLAGS,
)
flags.DEFINE_boolean(
    "tensorflow_serving",
    False,
    "Add what TensorFlow Serving takes: warm-up, configuration, classify or regress.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "data", None, "`FILE` with examples and labels, as of evaluate.", flag_values=FLAGS
)
labelled.define_columns(FLAGS)
flags.DEFINE_list(
    "modes",
    None,
    "`MODE,MODE,…` of a sweep: values of --quantize, by default all; of SavedModels such as "
    "bfloat16, float32-cpu, float32-gpu.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "max_drop",
    0.01,
    "How much less than the task's the `QUALITY` of what a sweep chooses may be.",
    flag_values=FLAGS,
)
REQUIRED = ("model", "output")
USAGE = "[sweep] --model DIR --format saved_model|tflite|onnx --output PATH [flags]"
EXAMPLES = """
    lingxi export --model runs/comments --format saved_model --output serving/comments
    lingxi export --model runs/comments --format tflite --quantize int8 --output comments.tflite
    lingxi export sweep --model runs/comments --data dev.csv --output runs/sweep
    lingxi export sweep --model runs/comments --data dev.csv --format saved_model --output runs/fast
"""
SWEEP = "sweep"
_ONLY_FOR = {  # flag: for what
    "precision": ("saved_model",),
    "target": ("saved_model",),
    "tensorflow_serving": ("saved_model",),
    "quantize": ("tflite",),
    "recipe": ("tflite",),
    "batch_size": ("tflite",),
    "size": ("tflite",),
    "input": ("tflite", SWEEP),
    "lengths": ("tflite", SWEEP),
    "data": ("tflite", SWEEP),
    "text_column": ("tflite", SWEEP),
    "pair_column": ("tflite", SWEEP),
    "label_column": ("tflite", SWEEP),
    "modes": (SWEEP,),
    "max_drop": (SWEEP,),
    "min_agreement": ("saved_model", "tflite", "onnx"),
}


def run(arguments):
    if arguments not in ([], [SWEEP]):
        raise app.UsageError(
            f"export takes flags, and the verb sweep; got {arguments}; see lingxi export --help"
        )
    form = SWEEP if arguments else FLAGS.format
    needed = "data" if arguments else "format"
    if FLAGS[needed].value is None:
        raise app.UsageError(f"export needs --{needed}; see lingxi export --help")
    for name, forms in _ONLY_FOR.items():
        if form not in forms and not FLAGS[name].using_default_value:
            places = (place if place == SWEEP else f"--format {place}" for place in forms)
            raise app.UsageError(f"--{name} is only for {' and '.join(places)}")
    if form == SWEEP and FLAGS.format == "onnx":
        raise app.UsageError("a sweep is of --format tflite, the default, or saved_model; got onnx")
    if form == SWEEP and FLAGS.format == "saved_model":
        for name in ("input", "lengths"):
            if not FLAGS[name].using_default_value:
                raise app.UsageError(f"--{name} is not for SavedModels")
    check_writable(FLAGS.output)
    settings = {
        "pairs": FLAGS.pairs,
        "max_length": FLAGS.max_length,
        "card": FLAGS.card and json.loads(pathlib.Path(FLAGS.card).read_text("utf-8")),
    }
    with quiet_tensorflow(FLAGS.debug):
        from lingxi import export, tasks

        task = tasks.load(FLAGS.model)
        if FLAGS.head is not None or form != "saved_model":
            task = models.head_of(task, FLAGS.head)
        if form == "saved_model":
            report = export.saved_model(
                task,
                FLAGS.output,
                precision=FLAGS.precision,
                target=None if FLAGS.target == "any" else FLAGS.target,
                tensorflow_serving=FLAGS.tensorflow_serving,
                min_agreement=FLAGS.min_agreement,
                **settings,
            )
        elif form == "onnx":
            report = export.onnx(task, FLAGS.output, min_agreement=FLAGS.min_agreement, **settings)
        else:
            if FLAGS.format != "saved_model":
                lengths = FLAGS.lengths and [int(length) for length in FLAGS.lengths]
                settings |= {"input": FLAGS.input, "lengths": lengths}
            report = (_sweep if form == SWEEP else _tflite)(task, export, settings)
    print(report)


def _tflite(task, export, settings):
    quantize = None if FLAGS.quantize == "none" else FLAGS.quantize
    if FLAGS.recipe:
        if quantize is not None:
            raise app.UsageError("--recipe stands in place of --quantize; pass one of them")
        quantize = json.loads(pathlib.Path(FLAGS.recipe).read_text("utf-8"))
    if FLAGS.batch_size != "any" and not FLAGS.batch_size.isdecimal():
        raise app.UsageError(f"--batch_size is a number, or any; got {FLAGS.batch_size}")
    examples = None
    if FLAGS.data:
        examples, _ = labelled.read(FLAGS.data, task.verb, task.export_metadata(), FLAGS)
    return export.tflite(
        task,
        FLAGS.output,
        quantize=quantize,
        batch_size=None if FLAGS.batch_size == "any" else int(FLAGS.batch_size),
        size=FLAGS.size and [int(side) for side in FLAGS.size],
        examples=examples,
        min_agreement=FLAGS.min_agreement,
        **settings,
    )


def _sweep(task, export, settings):
    examples, labels = labelled.read(FLAGS.data, task.verb, task.export_metadata(), FLAGS)
    settings["format"] = FLAGS.format or "tflite"
    if FLAGS.modes:
        settings["modes"] = [None if mode == "none" else mode for mode in FLAGS.modes]
    return export.sweep(task, FLAGS.output, examples, labels, max_drop=FLAGS.max_drop, **settings)
