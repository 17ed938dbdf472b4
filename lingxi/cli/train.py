"""Train a task on a file of examples, by default a text classifier.

classify and rate: a .csv, .tsv or .jsonl file in UTF-8, a .parquet file, or a directory of these or
of Hugging Face's `datasets`, with a column of texts and a column of labels or numbers. embed: such
a table of pairs that mean the same, or, with a --label_column, of pairs and their similarities from
-1 to 1. translate and summarize: such a table of sources and, in the --pair_column, what to write.
tag: a CoNLL file, or JSONL with spans. answer: JSON of SQuAD's form. generate and fill: plain text,
for fill with blank lines between documents.

The output directory appears when training has finished; other commands take it as --model, and the
Auto class of transformers loads it too.
"""

import contextlib
import math
import os
import pathlib
import shutil
import sys

from absl import app, flags

from lingxi.cli import launch, training_data
from lingxi.cli.command import check_output, new_flags, note
from lingxi.cli.quiet import quiet_tensorflow
from lingxi.files import atomic_path

FLAGS = new_flags(training_data.FLAGS)
flags.DEFINE_string("output", None, "`DIR` to save the task in.", flag_values=FLAGS)
flags.DEFINE_boolean(
    "overwrite", False, "Replace the task in --output if there is one.", flag_values=FLAGS
)
flags.DEFINE_integer("epochs", 3, "Passes over the data, `N`.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer(
    "batch_size",
    32,
    "Texts a step, `N`; by default of generate, translate and summarize as many as 4096 to 8192 "
    "tokens are.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "learning_rate",
    5e-5,
    "`RATE` at the peak; it rises over a tenth of the steps, then falls to zero. By default as "
    "fits the task: 5e-5 for weights that have learned already.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "schedule",
    None,
    ["linear", "constant", "cosine", "polynomial", "exponential", "inverse_square_root"],
    "How the rate falls; by default linearly, for most tasks.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "warmup", None, "`SHARE` of the steps over which the rate rises, 0.1.", flag_values=FLAGS
)
flags.DEFINE_float(
    "layer_decay",
    None,
    "Each block learns at so large a `SHARE` of the rate of the one above it.",
    flag_values=FLAGS,
)
TECHNIQUES = {
    "cutoff": "Cutoff",
    "fgm": "Fgm",
    "freelb": "FreeLb",
    "mixup": "Mixup",
    "pgd": "Pgd",
    "r_drop": "RDrop",
    "virtual": "VirtualAdversarial",
}
flags.DEFINE_enum(
    "technique",
    None,
    list(TECHNIQUES),
    "Also learn adversarial neighbours of each text (fgm, pgd, freelb, virtual), that two dropouts "
    "agree (r_drop), texts with gaps (cutoff), or mixed ones (mixup).",
    flag_values=FLAGS,
)
flags.DEFINE_boolean(
    "recompute",
    False,
    "Keep less in memory, and compute it again for the gradients: longer texts and larger batches, "
    "for a third more work.",
    flag_values=FLAGS,
)
flags.DEFINE_boolean(
    "xla",
    False,
    "Compile the steps by XLA, anew for every shape of a batch: faster for small models of --task "
    "generate.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "tensorboard",
    None,
    "`DIR` for TensorBoard: losses, learning rate, norms of gradients, answers to samples.",
    flag_values=FLAGS,
)
flags.DEFINE_boolean(
    "profile",
    False,
    "With --tensorboard: a trace of ten steps, which shows where the time goes.",
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
FACTS = (
    *("preset", "data", "validation", "batch_size", "learning_rate", "schedule", "warmup"),
    *("layer_decay", "technique", "class_weight", "max_length", "seed"),
)
SAMPLES = 10  # texts whose answers TensorBoard shows
PROFILED = (10, 20)  # steps: the first and the last


def run(arguments):
    if arguments:
        raise app.UsageError(f"train takes flags only, got {arguments}; see lingxi train --help")
    output = pathlib.Path(FLAGS.output).expanduser().absolute()
    _check_flags()
    if FLAGS.resume and (output / "config.json").is_file():
        note(f"the training of {FLAGS.output} has finished already")
        return
    if not (FLAGS.resume and (output / "checkpoints").is_dir()):
        check_output(output, FLAGS.overwrite, "config.json", training_data.NAMES[FLAGS.task])
    training_data.check()
    if FLAGS.processes > 1 and FLAGS.coordinator is None:
        _launch(output)
        return
    if FLAGS.distribute:
        os.environ["KERAS_BACKEND"] = "jax"
    with launch.among_processes(FLAGS.processes):
        _train(output)


def _train(output):
    settings, data, validation = training_data.examples()

    with quiet_tensorflow(FLAGS.debug):
        import keras

        from lingxi import training
        from lingxi.cli.interrupt import StopAtInterrupt, resumable
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
    task = training_data.new_task(**settings)
    checkpoints = output if FLAGS.resume else None
    asked = _asked(validation)
    record = training.RunRecord(None, *asked, facts=_facts())
    record.set_model(task)  # for a training that had finished, and has only to be saved
    around = training.recomputed(task) if FLAGS.recompute else contextlib.nullcontext()
    with resumable(checkpoints), around, _tokens_kept(output) as cache:
        history = task.fit(
            *data,
            validation_data=validation,
            epochs=FLAGS.epochs,
            seed=FLAGS.seed,
            resume=checkpoints,
            callbacks=[StopAtInterrupt(), record, *_tensorboard(asked)],
            verbose=1 if sys.stdout.isatty() else 2,  # in a log file, a line an epoch
            **cache,
            **_options(),
        ).history
    if not math.isfinite(history["loss"][-1]):
        raise ValueError("the loss is no longer a number; nothing was saved. Lower --learning_rate")
    with training.whole_weights(task):
        if not training.is_first_process():
            return
        with atomic_path(output) as temporary:  # checkpoints there make room, once all is written
            task.save_preset(temporary)
            record.write(temporary)

    metric = training_data.metric()
    measured, key = ("validation", f"val_{metric}") if validation else ("training", metric)
    print(f"\nSaved to {FLAGS.output}; {measured} {metric} {history[key][-1]:.4f}. Next:")
    examples = {"answer": "--data questions.csv", "fill": '"the [MASK] of a text"'}
    print(f"  lingxi predict --model {FLAGS.output} " + examples.get(FLAGS.task, '"a text"'))
    form = "saved_model" if FLAGS.task in ("answer", "fill", "generate", "tag") else "tflite"
    path = "serving/model" if form == "saved_model" else "model.tflite"
    print(f"  lingxi export --model {FLAGS.output} --format {form} --output {path}")
    print(f"  lingxi report {FLAGS.output}")


@contextlib.contextmanager
def _tokens_kept(output):
    """The argument `cache` of `fit`, if it needs one: a directory that goes when it has finished.

    One that is resumed finds it among the checkpoints, and it makes room with them.
    """
    if not training_data.keeps_tokens():
        yield {}
    elif FLAGS.resume:
        yield {"cache": output / "checkpoints" / "tokens"}
    else:
        from lingxi.training import is_first_process

        directory = output.parent / f".{output.name}.tokens"  # of all processes
        try:
            yield {"cache": directory}
        finally:
            if is_first_process():
                shutil.rmtree(directory, ignore_errors=True)


def _options():
    """The arguments of `fit` that have a default of their own in each task."""
    from lingxi import training

    names = ("class_weight", "schedule", "warmup", "layer_decay")
    options = {name: FLAGS[name].value for name in names if FLAGS[name].value is not None}
    makes_text = FLAGS.task in ("generate", *training_data.OF_PAIRS)
    for name in ("batch_size", "learning_rate"):
        if FLAGS[name].present or not makes_text:
            options[name] = FLAGS[name].value
    if FLAGS.technique:
        options["technique"] = getattr(training, TECHNIQUES[FLAGS.technique])()
    if FLAGS.xla:
        options["jit_compile"] = True
    return options


def _tensorboard(asked):
    """The callback for `--tensorboard`, or none."""
    if not FLAGS.tensorboard:
        return []
    from lingxi import training

    samples, wanted = (part[:SAMPLES] for part in asked) if asked else ((), None)
    steps = PROFILED if FLAGS.profile else 0
    return [training.TensorBoard(FLAGS.tensorboard, samples, wanted, profile_batch=steps)]


def _check_flags():
    if FLAGS.processes > 1 and not FLAGS.distribute:
        raise app.UsageError("--processes needs --distribute=data_parallel or model_parallel")
    if FLAGS.profile and not FLAGS.tensorboard:
        raise app.UsageError("--profile needs --tensorboard, the directory of its trace")
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
    if not validation or FLAGS.distribute:
        return ()
    if FLAGS.task == "tag":
        return [e.text for e in validation], [e.entities for e in validation]
    return validation if FLAGS.task == "classify" and not FLAGS.stream else ()
