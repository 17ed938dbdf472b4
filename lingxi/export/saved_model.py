"""SavedModel: raw strings or pictures in, final answers out, on any TensorFlow server."""

import contextlib
import errno
import gc
import numbers
import pathlib
from collections.abc import Iterator

import tensorflow as tf

from lingxi.export import metadata, model_card, serving, verification
from lingxi.export.artifact import versions
from lingxi.export.precision import INT8_WEIGHTS, in_precision
from lingxi.export.stored_weights import StoredWeights
from lingxi.files import atomic_path
from lingxi.layers import decoding_by_tensorflow
from lingxi.tasks.feature_matcher import FeatureMatcher
from lingxi.tasks.generation import GenerationTask
from lingxi.tasks.multi_task import MultiTask

PRECISIONS = ("float32", "bfloat16", INT8_WEIGHTS)
TARGETS = (None, "cpu", "gpu")


def saved_model(
    task,
    directory,
    version=None,
    precision="float32",
    target=None,
    pairs=False,
    max_length=None,
    examples=None,
    min_agreement=None,
    card=None,
    tensorflow_serving=False,
):
    """Write `directory/<version>/`, as TensorFlow Serving lays models out, and verify it.

    Signatures, all with a free batch dimension: `serving_default` takes `text` (and `pair`, with
    `pairs=True`), strings `[batch]`; `token_ids` takes what the tokenizer gives: `token_ids`,
    `padding_mask` and, of BERT, `segment_ids`, `[batch, seq]`. Both give the same final answers
    (of a classifier `label`, `score` and `probabilities`; of a task that makes text `text`,
    `score`, `token_ids` and `lengths`, `[batch, results]`). A task that makes text has two more:
    `with_options` takes `text` and the scalars `max_tokens`, at most that of the task, and, unless
    it searches beams, `temperature`, `top_p` and `seed`; `score` takes `token_ids` (of a text or a
    source; then also `padding_mask` and `target_ids`) and gives `log_probs`, float32
    `[batch, seq]`, of each token of the text but the first, or of the target. They share one copy
    of the weights. A process that serves it needs only tensorflow and tensorflow_text.

    Of a `MultiTask` each head has two, named after it in place of `serving_default` and
    `token_ids`: `names` and `names_token_ids`. All share one copy of the encoder.

    Of a `FeatureMatcher` there are two other ones, for `image_a` and `image_b`: `serving_default`
    takes the contents of PNG or JPEG files, strings `[batch]`, of any sizes; `pictures` floats
    from 0 to 1, `[batch, height, width, 1]`. Both give `points_a`, `points_b`
    `[batch, max_matches, 2]`, `scores` and `is_match` `[batch, max_matches]`.

    Args:
        task: a trained task.
        directory: of all versions of this model.
        version: a number; by default one more than the highest there.
        precision: "float32"; "bfloat16": half the size, and faster on CPUs with AMX and on GPUs;
            or "int8_weights": a quarter of the size, but no faster: it computes in float32.
        target: None, for any machine; "cpu": weights are constants of the graph, for which
            TensorFlow packs them: faster for few texts, but slower to load and up to 2 GB, and a
            process that serves it takes many times their memory; or "gpu": XLA compiles the
            function from token ids to answers, once for each batch size, with texts padded to
            `max_length`; not for tasks that make text, nor for TensorFlow Serving's GPU images,
            which have no XLA compiler. Neither export nor verification needs a GPU.
        pairs: take pairs of texts; of a `MultiTask` also `{name: bool}`.
        max_length: in tokens, by default the task's; of a `MultiTask` also `{name: max_length}`.
        examples: texts (or pairs) to verify with, by default lingxi's own; of a `MultiTask` only
            `{name: examples}`.
        min_agreement: least share of equal answers; by default 1 for float32, 0.98 for
            int8_weights and 0.97 for bfloat16.
        card: a dict of what the artifact shall say of its task, such as
            `{"training_data": …, "metrics": …}`; lingxi adds the rest to its `lingxi.json`.
        tensorflow_serving: more of what that server takes (extra `serving`): a signature
            `classify` or `regress` for serialized `tf.train.Example`s with the feature "text" (and
            "pair") where one fits, requests to warm up with, and beside the versions
            `models.config` and `batching_parameters.txt`, unless they are there.

    Returns:
        A `lingxi.export.Report`.

    Raises:
        VerificationError: the artifact's answers differ from the task's; nothing is left behind.
        ValueError, OSError: bad arguments; a target that cannot be written; an operation that
            TensorFlow Serving has not, or, for "gpu", XLA.
        ImportError: `tensorflow_serving` without the extra.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")
    if target not in TARGETS:
        raise ValueError(f"target must be one of {TARGETS}, got {target!r}")
    if target == "gpu" and isinstance(task, GenerationTask):
        raise ValueError(
            f'target="gpu" compiles by XLA, which a {type(task).__name__} cannot be: it makes text '
            "in a loop. Choose target=None, which runs on GPUs too"
        )
    directory = pathlib.Path(directory)
    if version is None:
        version = max(versions(directory), default=0) + 1
    if not isinstance(version, numbers.Integral) or version < 0:
        raise ValueError(f"version must be a whole number, 0 or more, got {version!r}")
    path = directory / str(int(version))
    if path.exists():
        raise FileExistsError(f"{path} exists; leave `version` out to write the next one")
    card = model_card.make(task, card)
    if tensorflow_serving:
        serving.check_installed()
    examples = list(examples) if isinstance(examples, Iterator) else examples
    gc.collect()  # TensorFlow's graphs of the export before hold each other
    parts = _parts
    if isinstance(task, MultiTask):
        parts = _heads
    elif isinstance(task, FeatureMatcher):
        parts = _pictures
    served, signatures, facts = parts(task, precision, target, pairs, max_length)
    if tensorflow_serving:
        signatures |= serving.signatures(task, signatures, pairs)
    with _new_parents_removed(path), atomic_path(path) as temporary:
        try:
            tf.saved_model.save(served, str(temporary), signatures=signatures)
        except tf.errors.OpError as error:
            raise OSError(errno.EIO, error.message) from error
        serving.check_operations(temporary)
        serving.write_methods(temporary)
        metadata.write_beside(temporary, {**facts, "card": card})
        try:
            report = verification.verify_unpublished(task, temporary, examples, min_agreement)
        except tf.errors.OpError as error:
            if target != "gpu":
                raise
            reasons = [line for line in error.message.splitlines() if "XLA" in line]
            raise ValueError(
                f"XLA cannot compile this {type(task).__name__}: {(*reasons, error.message)[0]}. "
                "Choose target=None, which runs on GPUs too"
            ) from error
        if tensorflow_serving:
            serving.write_warmup(temporary, directory.absolute().name, task, examples)
        report = model_card.seal(temporary, report)
    if tensorflow_serving:
        serving.write_configuration(directory)
    return report.moved_to(path)


def _parts(task, precision, target, pairs, max_length, weights=None):
    """What is saved of a task: the module that holds its weights, signatures and metadata."""
    pairs = task.check_pairs(pairs)
    max_length = task.checked_max_length(max_length)
    inputs, told = task.tokenized_signature(), task.serving_arguments()
    converted = in_precision(task, precision)
    weights = weights or StoredWeights([converted], precision, target)
    served = _Served(converted, weights, target, inputs, told)
    padding = "max_length" if target == "gpu" else "longest"  # XLA compiles for each length

    def answers(text, pair=None):
        return task.serving_function(text, pair, max_length, padding, served.answers)

    def answers_for_ids(**inputs):
        return task.readable(served.answers(inputs))

    texts = [tf.TensorSpec([None], tf.string, name=name) for name in ("text", "pair")]

    def answers_as_told(text, **told):
        def answers(inputs):
            return served.answers_as_told(inputs, told)

        return task.serving_function(text, max_length=max_length, answers=answers)

    answers = tf.function(answers, autograph=False)
    signatures = {
        "serving_default": answers.get_concrete_function(*(texts if pairs else texts[:1])),
        "token_ids": tf.function(answers_for_ids, autograph=False).get_concrete_function(**inputs),
    }
    if told:
        signatures["with_options"] = tf.function(
            answers_as_told, autograph=False
        ).get_concrete_function(texts[0], **told)
    if isinstance(task, GenerationTask):
        signatures["score"] = served.score
    facts = metadata.describe(
        task, precision=precision, target=target, pairs=pairs, max_length=max_length
    )
    return served, signatures, facts


def _heads(multi, precision, target, pairs, max_length):
    """The same of a `MultiTask`."""
    tasks, first = multi.tasks, in_precision(next(iter(multi.tasks.values())), precision)
    if first.backbone is not multi.backbone:
        tasks = multi.over(first.backbone).tasks
    weights = StoredWeights(list(tasks.values()), precision, target)
    served, signatures, facts = tf.Module(), {}, {}
    served.heads = {}
    for name, task in tasks.items():
        settings = (multi.setting(setting, name) for setting in (pairs, max_length))
        served.heads[name], own, facts[name] = _parts(task, precision, target, *settings, weights)
        signatures[name] = own["serving_default"]
        signatures[f"{name}_token_ids"] = own["token_ids"]
    facts = {"task": "MultiTask", "precision": precision, "target": target, "tasks": facts}
    return served, signatures, facts


def _pictures(task, precision, target, pairs, max_length):
    """The same of a `FeatureMatcher`."""
    if pairs or max_length is not None:
        raise ValueError("pairs and max_length are for texts; a FeatureMatcher takes pictures")
    converted = in_precision(task, precision)
    weights = StoredWeights([converted], precision, target)
    served = _Served(converted, weights, target, task.frames_signature())

    def of_files(image_a, image_b):
        return task.serving_function_of_files(image_a, image_b, answers=served.answers)

    def of_pictures(image_a, image_b):
        return task.serving_function(image_a, image_b, answers=served.answers)

    of_files, of_pictures = (tf.function(f, autograph=False) for f in (of_files, of_pictures))
    signatures = {
        "serving_default": of_files.get_concrete_function(*task.files_signature()),
        "pictures": of_pictures.get_concrete_function(*task.pictures_signature()),
    }
    return served, signatures, metadata.describe(task, precision=precision, target=target)


class _Served(tf.Module):
    """A task's graph from `inputs` to answers, and its weights, which TensorFlow tracks.

    All is traced before it is saved: then, TensorFlow would trace it again, with all weights in it.
    """

    def __init__(self, task, weights, target, inputs, arguments=None):
        super().__init__()
        self.weights = weights.variables

        def answers(inputs, *told):
            with weights.in_place(), decoding_by_tensorflow():
                return task.answers(inputs, **dict(*told))

        def score(**given):
            with weights.in_place():
                return {"log_probs": task.log_probs(**given)}

        compiled = True if target == "gpu" else None
        traced = tf.function(answers, autograph=False, jit_compile=compiled)
        self.answers = traced.get_concrete_function(inputs)
        if isinstance(task, GenerationTask):
            self.score = tf.function(score, autograph=False).get_concrete_function(
                **task.scoring_signature()
            )
        if arguments:  # a function that nobody calls would be saved nevertheless
            self.answers_as_told = traced.get_concrete_function(inputs, arguments)


@contextlib.contextmanager
def _new_parents_removed(path):
    """When the block raises, the directories above `path` that it made are removed again."""
    missing = [parent for parent in path.parents if not parent.exists()]
    try:
        yield
    except BaseException:
        for parent in missing:  # the innermost first
            with contextlib.suppress(OSError):  # never made, or somebody uses it by now
                parent.rmdir()
        raise
