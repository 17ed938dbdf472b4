"""Export a trained task as a SavedModel (servers) or a TFLite file (phones).

The export takes raw text, tokenizer included, and its answers are compared with the task's. Tasks
that read long texts in windows need --input ids for TFLite: lingxi then tokenizes for the file.
"""

import json
import pathlib

from absl import app, flags

from lingxi.cli import models
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
flags.DEFINE_enum("format", None, ["saved_model", "tflite"], "What to write.", flag_values=FLAGS)
flags.DEFINE_string(
    "output",
    None,
    "`PATH` to write: a directory for saved_model, a file for tflite.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "precision",
    "float32",
    ["float32", "bfloat16"],
    "Number format of a SavedModel's computations; bfloat16 is fast on recent CPUs and GPUs.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "quantize",
    "none",
    ["none", "float16", "int8"],
    "Number format of a TFLite file's weights; int8 is 4 times smaller, and faster.",
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
REQUIRED = ("model", "format", "output")
USAGE = "--model DIR --format saved_model|tflite --output PATH [flags]"
EXAMPLES = """
    lingxi export --model runs/comments --format saved_model --output serving/comments
    lingxi export --model runs/comments --format tflite --quantize int8 --output comments.tflite
"""
_ONLY_FOR = {
    "saved_model": ("precision", "tensorflow_serving"),
    "tflite": ("quantize", "input", "size"),
}


def run(arguments):
    if arguments:
        raise app.UsageError(f"export takes flags only, got {arguments}; see lingxi export --help")
    for form, names in _ONLY_FOR.items():
        for name in names:
            if form != FLAGS.format and not FLAGS[name].using_default_value:
                raise app.UsageError(f"--{name} is only for --format {form}")
    check_writable(FLAGS.output)
    settings = {
        "pairs": FLAGS.pairs,
        "max_length": FLAGS.max_length,
        "min_agreement": FLAGS.min_agreement,
        "card": FLAGS.card and json.loads(pathlib.Path(FLAGS.card).read_text("utf-8")),
    }
    with quiet_tensorflow(FLAGS.debug):
        from lingxi import export, tasks

        task = tasks.load(FLAGS.model)
        if FLAGS.head is not None or FLAGS.format == "tflite":
            task = models.head_of(task, FLAGS.head)
        if FLAGS.format == "saved_model":
            report = export.saved_model(
                task,
                FLAGS.output,
                precision=FLAGS.precision,
                tensorflow_serving=FLAGS.tensorflow_serving,
                **settings,
            )
        else:
            quantize = None if FLAGS.quantize == "none" else FLAGS.quantize
            size = FLAGS.size and [int(side) for side in FLAGS.size]
            report = export.tflite(
                task, FLAGS.output, quantize=quantize, input=FLAGS.input, size=size, **settings
            )
    print(report)
