"""TFLite (LiteRT): one file for a phone; raw text, token ids or pictures in, answers out."""

import contextlib
import errno
import gc
import tempfile
from collections.abc import Iterator

import tensorflow as tf

from lingxi.export import (
    calibration,
    flatbuffer,
    mediapipe,
    metadata,
    model_card,
    quantization,
    verification,
)
from lingxi.export.examples import TEXTS
from lingxi.export.precision import in_precision
from lingxi.files import atomic_path, checked_file
from lingxi.tasks.feature_matcher import FeatureMatcher, check_frame
from lingxi.tasks.generation import GenerationTask
from lingxi.tasks.multi_task import MultiTask
from lingxi.tasks.sequence_head import SequenceHead
from lingxi.tasks.text_embedder import TextEmbedder

BY_CONVERTER = (None, "float16", "int8")
QUANTIZATIONS = (*BY_CONVERTER, *quantization.MODES)
INPUTS = ("text", "ids", "mediapipe")
OF_WHOLE_TEXTS = (SequenceHead, TextEmbedder)  # what may have `lengths`


def tflite(
    task,
    path,
    quantize=None,
    input="text",
    pairs=False,
    max_length=None,
    lengths=None,
    batch_size=1,
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
        quantize: None (float32), "float16" (half the size), "int8" (weights int8, activations
            quantized as they come: a quarter of the size, and faster); and, by ai-edge-quantizer
            (extra `quantization`), "int8_weights" (weights int8, all products in float32),
            "int4" (weights int4, activations int8 as they come: an eighth of the size; for those
            trained in `lingxi.training.quantization_aware`), "int8_static" (the products of a
            network in integers throughout, for chips that have no others: the ranges of their
            inputs and outputs are those on `examples`, which must be given, some hundred real
            ones; norms and softmax stay float32), or a mixed recipe, `{pattern: number format}`
            with "*" for all other layers: `{"embedding": "int4", "block_0/": None, "*": "int8"}`.
            A pattern is a regular expression, searched for in the names of layers, such as
            `text_classifier/bert/block_0/attention/output/MatMul`; the first that fits counts.
            Embedding tables are quantized too; layers of less than 1024 weights are not, but by
            "int8_static".
        input: "text", for WordPiece and most SentencePiece tokenizers: the tokenizer runs inside,
            by custom operations of TensorFlow Text; inputs `text` (and `pair`, with
            `pairs=True`), string `[1]`; final answers out (of a classifier `label` string,
            `score`, `probabilities`; of a task that makes text `text`, `score`, `token_ids` and
            `lengths`). "ids": builtin operations only; inputs `token_ids`, `padding_mask` and, of
            BERT, `segment_ids`, `[1, max_length]`; answers without strings out; the files of the
            tokenizer are packed into the file. A task that draws its tokens takes also `uniform`
            `[1, results, max_tokens]`, the random numbers; one that makes text has a second
            signature, `score`, as of `lingxi.export.saved_model`. "mediapipe" (a classifier or
            embedder with a WordPiece tokenizer; extra `mobile`): a file that `TextClassifier` and
            `TextEmbedder` of MediaPipe Tasks load as it is, on Android, iOS, the web and in
            Python; inputs `ids`, `mask` and `segment_ids`, int32; one output, `probabilities` or
            `embedding`. MediaPipe's tokenizer is not quite BERT's: a warning counts the examples
            whose answers differ.
        pairs: take pairs of texts.
        max_length: in tokens; every text is padded to it. By default the task's; 128 at most for
            a task that makes text, whose decoding loop is inside.
        lengths: of a classifier, regressor or embedder, in place of `max_length`: several, such
            as [32, 64, 128], so that a short text costs less. The file has a signature for each,
            `length_32`, …, and the longest is `serving_default`; they share one copy of the
            weights. With `input="text"` a signature `num_tokens` tells how many a text has.
            `lingxi.export.load` takes the shortest that holds a text.
        batch_size: texts of a call, which every `[1, …]` said here then is; None for any number, to
            which the interpreter resizes the inputs. A loop of decoding reads all weights once for
            the texts of a call. Accelerators want a number; MediaPipe takes one text.
            `lingxi.export.load` makes batches of what it is given.
        stepwise: of a task that makes text, with `input="ids"`: two more signatures, for callers
            that stream, or whose hardware takes no loops. `prefill` takes the tokens, `decode`
            all outputs of the step before whose name begins with "state"; both give `unfinished`,
            and `token_ids`, `lengths` and `score` so far. All share one copy of the weights.
        size: height and width of the pictures of a `FeatureMatcher`, multiples of 8; by default 3 :
            4 and as wide as its `max_size`. The file, of builtin operations only, takes `image_a`,
            `image_b` float32 `[1, height, width, 1]` from 0 to 1 and `size_a`, `size_b` int32
            `[1, 2]`, the height and width of the picture in the upper left of each, the rest being
            padding; and gives what a SavedModel gives. What is said above of texts (`input`,
            `pairs`, `max_length`, `lengths`, `batch_size`, `stepwise`) does not concern it.
        examples: texts, or pairs of texts or pictures, to verify with, by default lingxi's own.
        min_agreement: least share of equal answers; by default 1 for float32, 0.98 for float16 and
            int8_weights, 0.9 for int8, 0.8 for int8_static and mixed recipes, and 0.7 for int4.
        card: as of `lingxi.export.saved_model`.

    Returns:
        A `lingxi.export.Report`.

    Raises:
        VerificationError: the artifact's answers differ from the task's; nothing is left behind.
        ValueError, OSError: bad arguments; a target that cannot be written.
        ImportError: an extra that is not installed.
    """
    examples = _check_quantization(task, quantize, examples)
    card = model_card.make(task, card)
    gc.collect()  # TensorFlow's graphs of the export before hold each other
    if isinstance(task, FeatureMatcher):
        if pairs or max_length is not None or lengths is not None or stepwise or batch_size != 1:
            raise ValueError(
                "pairs, max_length, lengths, batch_size and stepwise are for texts, not pictures"
            )
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
    _check_batch_size(batch_size, input)
    if input == "mediapipe":
        mediapipe.check(task, pairs)
        examples = TEXTS if examples is None else list(examples)
    if input == "text" and not task.reads_text_in_tflite:
        raise ValueError(
            f"TFLite has no operations for raw text into a {type(task).__name__} with this "
            f"{type(task.tokenizer).__name__}; pass "
            'input="ids": the file then takes token ids, and lingxi.export.load tokenizes for it'
        )
    path = checked_file(path, ".tflite", "a TFLite file")
    if lengths is None:
        lengths = [task.static_length(max_length)]
    else:
        lengths = _checked_lengths(task, lengths, max_length, input, quantize)
    max_length = lengths[-1]
    float32 = in_precision(task, "float32")

    with atomic_path(path) as temporary:
        with _tokenizing_in_tflite(float32):
            converted = _convert(float32, quantize, input, pairs, lengths, batch_size, stepwise)
        facts = metadata.describe(
            task,
            quantize=quantize,
            input=input,
            pairs=pairs,
            max_length=max_length,
            batch_size=batch_size,
        )
        if len(lengths) > 1:
            facts["lengths"] = lengths
        tokenizer = task.tokenizer
        if input == "text":
            facts["kernels"] = list(task.tflite_kernels())
            tokenizer = None
        files = {}
        if input == "mediapipe":
            files, facts["inputs"] = mediapipe.files(task), mediapipe.INPUTS
        converted = _quantized(converted, quantize, facts, tokenizer, examples)
        model = flatbuffer.unpack(converted)
        if input == "mediapipe":
            mediapipe.add_metadata(model, task)
        temporary.write_bytes(flatbuffer.pack(model))
        metadata.append(temporary, {**facts, "card": card}, tokenizer, files)
        report = verification.verify_unpublished(task, temporary, examples, min_agreement)
        if input == "mediapipe":
            mediapipe.warn_of_other_answers(temporary, task, examples)
        report = model_card.seal(temporary, report)
    return report.moved_to(path)


def _of_frames(task, path, quantize, size, examples, min_agreement, card):
    """`tflite` of a `FeatureMatcher`."""
    path = checked_file(path, ".tflite", "a TFLite file")
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
        facts = metadata.describe(task, quantize=quantize, input="pictures", size=list(size))
        converted = _converted(converter, quantize, "pictures")
        converted = _quantized(converted, quantize, facts, None, examples)
        temporary.write_bytes(flatbuffer.pack(flatbuffer.unpack(converted)))
        metadata.append(temporary, {**facts, "card": card})
        report = verification.verify_unpublished(task, temporary, examples, min_agreement)
        report = model_card.seal(temporary, report)
    return report.moved_to(path)


def check_number_format(quantize):
    """Raise ValueError or ImportError unless `tflite` can `quantize` so, whatever the task."""
    if not isinstance(quantize, dict) and quantize not in QUANTIZATIONS:
        raise ValueError(
            f"quantize must be one of {QUANTIZATIONS}, or a mixed recipe such as "
            f'{{"embedding": "int4", "*": "int8"}}; got {quantize!r}'
        )
    if quantize not in BY_CONVERTER:
        quantization.check(quantize)


def _check_quantization(task, quantize, examples):
    """`examples` as a list, if they are a generator; raise unless `task` can be quantized so."""
    check_number_format(quantize)
    if quantize == "int8_static":
        if hasattr(task, "stepwise") or isinstance(task, FeatureMatcher):
            raise ValueError(
                "int8_static is for tasks that read texts: loops of decoding, and matches of "
                f"pictures, have values without known ranges; got a {type(task).__name__}. "
                'Pass quantize="int8"'
            )
        if examples is None:
            raise ValueError(
                'quantize="int8_static" takes the ranges of activations from examples: pass '
                "examples=[…], some hundred real ones"
            )
    return list(examples) if isinstance(examples, Iterator) else examples


def _checked_lengths(task, lengths, max_length, input, quantize):
    """`lengths` in rising order."""
    if not isinstance(task, OF_WHOLE_TEXTS) or input == "mediapipe" or max_length is not None:
        raise ValueError(
            "lengths are for a classifier, regressor or embedder, input text or ids, and stand in "
            f"place of max_length; got a {type(task).__name__}, input={input!r} and "
            f"max_length={max_length}"
        )
    lengths = sorted({task.checked_max_length(length) for length in lengths})
    if not lengths:
        raise ValueError("lengths must hold at least one number of tokens, got none")
    if quantize == "int8_static" and len(lengths) > 1:
        raise ValueError(
            'quantize="int8_static" takes one length, whose ranges the examples show; got '
            f"lengths={lengths}"
        )
    return lengths


def _check_batch_size(batch_size, input):
    is_number = isinstance(batch_size, int) and not isinstance(batch_size, bool)
    if batch_size is not None and not (is_number and batch_size > 0):
        raise ValueError(
            f"batch_size must be a number of texts, or None for any number; got {batch_size!r}"
        )
    if input == "mediapipe" and batch_size != 1:
        raise ValueError(f"MediaPipe takes one text a call: pass batch_size=1, got {batch_size}")


def _convert(task, quantize, input, pairs, lengths, batch_size, stepwise):
    """The content of a file, in what the converter has of `quantize`."""
    arguments = task.tflite_arguments(batch_size)
    graphs = {}
    for length in lengths:
        name = "serving_default" if length == lengths[-1] else f"length_{length}"
        graphs[name] = _graph(task, input, pairs, length, batch_size, arguments)
    if len(lengths) > 1 and input == "text":
        graphs["num_tokens"] = _counting_graph(task, pairs, lengths[-1], batch_size)
    if isinstance(task, GenerationTask):
        graphs["score"] = _scoring_graph(task, lengths[-1], batch_size)
    if stepwise:
        graphs |= task.stepwise(task.tokenized_signature(batch_size, lengths[-1]) | arguments)

    # The converter writes a file without weights unless a tf.Module tracks the variables.
    module = tf.Module()
    module.variables_of_task = [weight.value for weight in task.weights]
    if len(graphs) == 1:
        converter = tf.lite.TFLiteConverter.from_concrete_functions([*graphs.values()], module)
        return _converted(converter, quantize, input)
    with tempfile.TemporaryDirectory() as folder:
        try:
            tf.saved_model.save(module, folder, signatures=graphs)
        except tf.errors.OpError as error:
            raise OSError(errno.EIO, error.message) from error
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(graphs))
        return _converted(converter, quantize, input)


def _graph(task, input, pairs, length, batch_size, arguments):
    """From what a file takes, padded to `length`, to answers."""
    if input == "text":
        signature = _texts(pairs, batch_size)
    elif input == "mediapipe":
        signature = mediapipe.signature(length)
    else:
        signature = task.tokenized_signature(batch_size, length)

    def answers(**given):
        told = {name: given.pop(name) for name in arguments}

        def run(inputs):
            return task.answers(inputs, **told)

        if input == "ids":
            return run(given)
        if input == "mediapipe":
            return mediapipe.answers(task, **given)
        return task.serving_function(**given, max_length=length, padding="max_length", answers=run)

    return tf.function(answers, autograph=False).get_concrete_function(**signature, **arguments)


def _scoring_graph(task, length, batch_size):
    """From given texts, as tokens, to the log-probabilities of these."""

    def score(**given):
        return {"log_probs": task.log_probs(**given)}

    graph = tf.function(score, autograph=False)
    return graph.get_concrete_function(**task.scoring_signature(batch_size, length))


def _counting_graph(task, pairs, length, batch_size):
    """From texts to how many tokens they have, at most `length`: int32 `[batch]`."""

    def count(text, pair=None):
        inputs = task.tokenized(text, pair, length, "max_length")
        return {"num_tokens": tf.reduce_sum(tf.cast(inputs["padding_mask"], tf.int32), axis=1)}

    return tf.function(count, autograph=False).get_concrete_function(**_texts(pairs, batch_size))


def _texts(pairs, batch_size):
    """The signature of raw texts."""
    names = ("text", "pair") if pairs else ("text",)
    return {name: tf.TensorSpec([batch_size], tf.string, name=name) for name in names}


def _converted(converter, quantize, input):
    converter.allow_custom_ops = input == "text"  # TensorFlow Text's; never Flex
    if quantize in ("float16", "int8"):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def _quantized(content, quantize, facts, tokenizer, examples):
    """`content` in what the converter has not of `quantize`.

    Args:
        facts, tokenizer: what its file carries.
        examples: to calibrate with.
    """
    if quantize in BY_CONVERTER:
        return content
    content = quantization.prepared(content)
    ranges = None
    if quantize == "int8_static":
        ranges = calibration.ranges(content, facts, tokenizer, examples)
    return quantization.quantized(content, quantize, ranges)


@contextlib.contextmanager
def _tokenizing_in_tflite(task):
    tokenizer = task.tokenizer
    task.tokenizer = tokenizer.for_tflite()
    try:
        yield
    finally:
        task.tokenizer = tokenizer
