"""TFLite (LiteRT): one file for a phone; raw text, token ids or pictures in, answers out."""

import contextlib
import errno
import functools
import gc
import pathlib
import tempfile

import flatbuffers
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from lingxi.export import mediapipe, metadata, model_card, verification
from lingxi.export.examples import TEXTS
from lingxi.export.precision import in_precision
from lingxi.files import atomic_path
from lingxi.tasks.feature_matcher import FeatureMatcher, check_frame
from lingxi.tasks.multi_task import MultiTask

QUANTIZATIONS = (None, "float16", "int8")
INPUTS = ("text", "ids", "mediapipe")
_ALIGNMENT = 16  # bytes, of the weights in a file: interpreters read them in place


def tflite(
    task,
    path,
    quantize=None,
    input="text",
    pairs=False,
    max_length=None,
    stepwise=False,
    size=None,
    examples=None,
    min_agreement=None,
    card=None,
):
    """Write one TFLite file and verify it in the LiteRT interpreter.

    Args:
        task: a trained task.
        path: ends in `.tflite`.
        quantize: None (float32), "float16" (half the size) or "int8" (weights int8, activations
            quantized as they come: a quarter of the size, and faster).
        input: "text", for WordPiece and most SentencePiece tokenizers: the tokenizer runs inside,
            by custom operations of TensorFlow Text; inputs `text` (and `pair`, with
            `pairs=True`), string `[1]`; final answers out (of a classifier `label` string,
            `score`, `probabilities`; of a task that makes text `text`, `score`, `token_ids` and
            `lengths`). "ids": builtin operations only; inputs `token_ids`, `padding_mask` and, of
            BERT, `segment_ids`, `[1, max_length]`; answers without strings out; the files of the
            tokenizer are packed into the file. A task that draws its tokens takes also `uniform`
            `[1, results, max_tokens]`, the random numbers. "mediapipe" (a classifier or embedder
            with a WordPiece tokenizer; extra `mobile`): a file that `TextClassifier` and
            `TextEmbedder` of MediaPipe Tasks load as it is, on Android, iOS, the web and in
            Python; inputs `ids`, `mask` and `segment_ids`, int32; one output, `probabilities` or
            `embedding`. MediaPipe's tokenizer is not quite BERT's: a warning counts the examples
            whose answers differ.
        pairs: take pairs of texts.
        max_length: in tokens; every text is padded to it. By default the task's; 128 at most for
            a task that makes text, whose decoding loop is inside.
        stepwise: of a task that makes text, with `input="ids"`: two more signatures, for callers
            that stream, or whose hardware takes no loops. `prefill` takes the tokens, `decode`
            all outputs of the step before whose name begins with "state"; both give `unfinished`,
            and `token_ids`, `lengths` and `score` so far. All share one copy of the weights.
        size: height and width of the pictures of a `FeatureMatcher`, multiples of 8; by default 3 :
            4 and as wide as its `max_size`. The file, of builtin operations only, takes `image_a`,
            `image_b` float32 `[1, height, width, 1]` from 0 to 1 and `size_a`, `size_b` int32
            `[1, 2]`, the height and width of the picture in the upper left of each, the rest being
            padding; and gives what a SavedModel gives. What is said above of texts (`input`,
            `pairs`, `max_length`, `stepwise`) does not concern it.
        examples: texts, or pairs of texts or pictures, to verify with, by default lingxi's own.
        min_agreement: least share of equal answers; by default 1 for float32, 0.98 for float16 and
            0.9 for int8.
        card: as of `lingxi.export.saved_model`.

    Returns:
        A `lingxi.export.Report`.

    Raises:
        VerificationError: the artifact's answers differ from the task's; nothing is left behind.
        ValueError, OSError: bad arguments; a target that cannot be written.
    """
    if quantize not in QUANTIZATIONS:
        raise ValueError(f"quantize must be one of {QUANTIZATIONS}, got {quantize!r}")
    card = model_card.make(task, card)
    gc.collect()  # TensorFlow's graphs of the export before hold each other
    if isinstance(task, FeatureMatcher):
        if pairs or max_length is not None or stepwise:
            raise ValueError("pairs, max_length and stepwise are for texts, not for pictures")
        return _of_frames(task, path, quantize, size, examples, min_agreement, card)
    if isinstance(task, MultiTask):
        raise ValueError(
            f"a TFLite file holds one task: pass one of {[*task.tasks]}, as in "
            f"tflite(multi[{next(iter(task.tasks))!r}], …)"
        )
    if size is not None:
        raise ValueError(f"size is for pictures; a {type(task).__name__} takes texts")
    if input not in INPUTS:
        raise ValueError(f"input must be one of {INPUTS}, got {input!r}")
    if stepwise and (input != "ids" or not hasattr(task, "stepwise")):
        raise ValueError(
            f'stepwise needs input="ids" and a task that makes text, got input={input!r} and a '
            f"{type(task).__name__}"
        )
    pairs = task.check_pairs(pairs)
    if input == "mediapipe":
        mediapipe.check(task, pairs)
        examples = TEXTS if examples is None else list(examples)
    if input == "text" and not task.reads_text_in_tflite:
        raise ValueError(
            f"TFLite has no operations for raw text into a {type(task).__name__} with this "
            f"{type(task.tokenizer).__name__}; pass "
            'input="ids": the file then takes token ids, and lingxi.export.load tokenizes for it'
        )
    path = _checked_path(path)
    max_length = task.static_length(max_length)
    float32 = in_precision(task, "float32")

    with atomic_path(path) as temporary:
        with _tokenizing_in_tflite(float32):
            converted = _convert(float32, quantize, input, pairs, max_length, stepwise)
        temporary.write_bytes(converted)
        facts = metadata.describe(
            task, quantize=quantize, input=input, pairs=pairs, max_length=max_length
        )
        tokenizer = task.tokenizer
        if input == "text":
            facts["kernels"] = list(task.tflite_kernels())
            tokenizer = None
        files = {}
        if input == "mediapipe":
            files, facts["inputs"] = mediapipe.files(task), mediapipe.INPUTS
        metadata.append(temporary, {**facts, "card": card}, tokenizer, files)
        report = verification.verify_unpublished(task, temporary, examples, min_agreement)
        if input == "mediapipe":
            mediapipe.warn_of_other_answers(temporary, task, examples)
        report = model_card.seal(temporary, report)
    return report.moved_to(path)


def _of_frames(task, path, quantize, size, examples, min_agreement, card):
    """`tflite` of a `FeatureMatcher`."""
    path = _checked_path(path)
    stride = task.backbone.config.stride
    if size is None:
        size = [side // stride * stride for side in (3 * task.max_size // 4, task.max_size)]
    check_frame(size, stride)
    float32 = in_precision(task, "float32")
    module = tf.Module()
    module.variables_of_task = [weight.value for weight in float32.weights]
    graph = tf.function(lambda **frames: float32.answers(frames), autograph=False)
    graph = graph.get_concrete_function(**task.frames_signature(1, *size))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], module)
    with atomic_path(path) as temporary:
        temporary.write_bytes(_compact(_converted(converter, quantize, "pictures")))
        facts = metadata.describe(task, quantize=quantize, input="pictures", size=list(size))
        metadata.append(temporary, {**facts, "card": card})
        report = verification.verify_unpublished(task, temporary, examples, min_agreement)
        report = model_card.seal(temporary, report)
    return report.moved_to(path)


def _checked_path(path):
    path = pathlib.Path(path)
    if path.suffix != ".tflite":
        raise ValueError(f"path must end in .tflite, got {str(path)!r}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory; a TFLite file cannot replace it")
    return path


def _convert(task, quantize, input, pairs, max_length, stepwise):
    arguments = task.tflite_arguments()
    if input == "text":
        names = ("text", "pair") if pairs else ("text",)
        signature = {name: tf.TensorSpec([1], tf.string, name=name) for name in names}
    elif input == "mediapipe":
        signature = mediapipe.signature(max_length)
    else:
        signature = task.tokenized_signature(1, max_length)

    def answers(**given):
        told = {name: given.pop(name) for name in arguments}

        def run(inputs):
            return task.answers(inputs, **told)

        if input == "ids":
            return run(given)
        if input == "mediapipe":
            return mediapipe.answers(task, **given)
        return task.serving_function(
            **given, max_length=max_length, padding="max_length", answers=run
        )

    # The converter writes a file without weights unless a tf.Module tracks the variables.
    module = tf.Module()
    module.variables_of_task = [weight.value for weight in task.weights]
    signature |= arguments
    graphs = {"serving_default": tf.function(answers, autograph=False)}
    graphs["serving_default"] = graphs["serving_default"].get_concrete_function(**signature)
    if not stepwise:
        converter = tf.lite.TFLiteConverter.from_concrete_functions([*graphs.values()], module)
        describe = None
        if input == "mediapipe":
            describe = functools.partial(mediapipe.add_metadata, task=task)
        return _compact(_converted(converter, quantize, input), describe)
    graphs |= task.stepwise(signature)
    with tempfile.TemporaryDirectory() as folder:
        try:
            tf.saved_model.save(module, folder, signatures=graphs)
        except tf.errors.OpError as error:
            raise OSError(errno.EIO, error.message) from error
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(graphs))
        return _compact(_converted(converter, quantize, input))


def _converted(converter, quantize, input):
    converter.allow_custom_ops = input == "text"  # TensorFlow Text's; never Flex
    if quantize is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


@contextlib.contextmanager
def _tokenizing_in_tflite(task):
    tokenizer = task.tokenizer
    task.tokenizer = tokenizer.for_tflite()
    try:
        yield
    finally:
        task.tokenizer = tokenizer


def _compact(model, describe=None):
    """The same TFLite file with equal vectors stored once: most are the channels' zero points.

    Args:
        describe: adds metadata to a `ModelT`.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    if describe is not None:
        describe(model)
    builder = _SharingBuilder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


class _SharingBuilder(flatbuffers.Builder):
    def __init__(self):
        super().__init__()
        self._offsets = {}

    def CreateNumpyVector(self, x):
        key = x.dtype, x.tobytes()
        if key not in self._offsets:
            self.Prep(_ALIGNMENT, x.nbytes)
            self._offsets[key] = super().CreateNumpyVector(x)
        return self._offsets[key]
