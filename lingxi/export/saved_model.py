"""SavedModel: raw strings in, labels and scores out, on any TensorFlow server."""

import contextlib
import errno
import numbers
import pathlib

import tensorflow as tf

from lingxi.export import metadata, verification
from lingxi.export.artifact import versions
from lingxi.export.precision import in_precision
from lingxi.files import atomic_path

PRECISIONS = ("float32", "bfloat16")


def saved_model(
    task,
    directory,
    version=None,
    precision="float32",
    pairs=False,
    max_length=None,
    examples=None,
    min_agreement=None,
):
    """Write `directory/<version>/`, as TensorFlow Serving lays models out, and verify it.

    Signatures, all with a free batch dimension: `serving_default` takes `text` (and `pair`, with
    `pairs=True`), strings `[batch]`; `token_ids` takes what the tokenizer gives: `token_ids`,
    `padding_mask` and, of BERT, `segment_ids`, `[batch, seq]`. Both give the same final answers
    (of a classifier `label`, `score` and `probabilities`; of a task that makes text `text`,
    `score`, `token_ids` and `lengths`, `[batch, results]`). A task that makes text has a third,
    `with_options`: `text` and the scalars `max_tokens`, at most that of the task, and, unless it
    searches beams, `temperature`, `top_p` and `seed`. They share one copy of the weights. A
    process that serves it needs only tensorflow and tensorflow_text.

    Args:
        task: a trained task.
        directory: of all versions of this model.
        version: a number; by default one more than the highest there.
        precision: "float32", or "bfloat16": half the size, and faster on CPUs with AMX and on
            GPUs.
        pairs: take pairs of texts.
        max_length: in tokens, by default the task's.
        examples: texts (or pairs) to verify with, by default lingxi's own.
        min_agreement: least share of equal answers; by default 1 for float32 and 0.97 for bfloat16.

    Returns:
        A `lingxi.export.Report`.

    Raises:
        VerificationError: the artifact's answers differ from the task's; nothing is left behind.
        ValueError, OSError: bad arguments; a target that cannot be written.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")
    pairs = task.check_pairs(pairs)
    directory = pathlib.Path(directory)
    if version is None:
        version = max(versions(directory), default=0) + 1
    if not isinstance(version, numbers.Integral) or version < 0:
        raise ValueError(f"version must be a whole number, 0 or more, got {version!r}")
    target = directory / str(int(version))
    if target.exists():
        raise FileExistsError(f"{target} exists; leave `version` out to write the next one")
    max_length = task.checked_max_length(max_length)
    served = _Served(in_precision(task, precision))

    def answers(text, pair=None):
        return task.serving_function(text, pair, max_length=max_length, answers=served.answers)

    def answers_for_ids(**inputs):
        return task.readable(served.answers(inputs))

    texts = [tf.TensorSpec([None], tf.string, name=name) for name in ("text", "pair")]
    told = task.serving_arguments()

    def answers_as_told(text, **told):
        def answers(inputs):
            return served.answers_as_told(inputs, told)

        return task.serving_function(text, max_length=max_length, answers=answers)

    signatures = {
        "serving_default": tf.function(
            answers, input_signature=texts if pairs else texts[:1], autograph=False
        ),
        "token_ids": tf.function(answers_for_ids, autograph=False).get_concrete_function(
            **task.tokenized_signature()
        ),
    }
    if told:
        signatures["with_options"] = tf.function(
            answers_as_told, autograph=False
        ).get_concrete_function(texts[0], **told)
    with _new_parents_removed(target), atomic_path(target) as temporary:
        try:
            tf.saved_model.save(served, str(temporary), signatures=signatures)
        except tf.errors.OpError as error:
            raise OSError(errno.EIO, error.message) from error
        metadata.write_beside(
            temporary,
            metadata.describe(task, precision=precision, pairs=pairs, max_length=max_length),
        )
        report = verification.verify_unpublished(task, temporary, examples, min_agreement)
    return report.moved_to(target)


class _Served(tf.Module):
    """A task's graph from tokenized inputs to answers, and its weights, which TensorFlow tracks."""

    def __init__(self, task):
        super().__init__()
        self.weights = [weight.value for weight in task.weights]
        self.answers = tf.function(
            task.answers, input_signature=[task.tokenized_signature()], autograph=False
        )
        arguments = task.serving_arguments()
        if arguments:  # a function that nobody calls would be traced and saved nevertheless
            self.answers_as_told = tf.function(
                lambda inputs, told: task.answers(inputs, **told),
                input_signature=[task.tokenized_signature(), arguments],
                autograph=False,
            )


@contextlib.contextmanager
def _new_parents_removed(target):
    """When the block raises, the directories above `target` that it made are removed again."""
    missing = [parent for parent in target.parents if not parent.exists()]
    try:
        yield
    except BaseException:
        for parent in missing:  # the innermost first
            with contextlib.suppress(OSError):  # never made, or somebody uses it by now
                parent.rmdir()
        raise
