"""TFLite files that MediaPipe Tasks loads as they are: its inputs, and the metadata that it reads.

`TextClassifier` and `TextEmbedder` of MediaPipe (Android, iOS, web, Python) tokenize by themselves,
with the `vocab.txt` in the file, and find the names of inputs and labels in the metadata of TFLite
(https://ai.google.dev/edge/litert/conversion/tensorflow/metadata).
"""

import importlib
import warnings

import flatbuffers
import numpy as np
import tensorflow as tf

from lingxi.export.artifact import load
from lingxi.tasks.text_classifier import TextClassifier
from lingxi.tasks.text_embedder import TextEmbedder
from lingxi.text import WordPieceTokenizer

ANSWERS = {TextClassifier: "probabilities", TextEmbedder: "embedding"}
INPUTS = {"token_ids": "ids", "padding_mask": "mask", "segment_ids": "segment_ids"}
LABELS = "labels.txt"
VOCABULARY = "vocab.txt"
METADATA_KEY, METADATA_IDENTIFIER = "TFLITE_METADATA", b"M001"
SAME = 1e-3  # of any number of an answer


def check(task, pairs):
    """Raise unless MediaPipe can run `task`.

    Raises:
        ImportError: the extra `mobile` is not installed.
        ValueError: a task, a tokenizer or labels that MediaPipe has no place for.
    """
    if type(task) not in ANSWERS or not isinstance(task.tokenizer, WordPieceTokenizer) or pairs:
        raise ValueError(
            "MediaPipe takes a TextClassifier or TextEmbedder of single texts with a WordPiece "
            f"tokenizer, got a {type(task).__name__} with a {type(task.tokenizer).__name__} and "
            f'pairs={pairs}; pass input="text" or input="ids"'
        )
    if getattr(task, "prompt", ""):
        raise ValueError(
            f"MediaPipe puts no prompt before a text, and this task has {task.prompt!r}; export "
            'one with prompt="", or pass input="text"'
        )
    broken = [label for label in _labels(task) if label.strip() != label or "\n" in label]
    if broken:
        raise ValueError(
            f"MediaPipe reads one label a line, without spaces around it; got {broken}"
        )
    _schema()


def signature(max_length):
    """What the file takes: int32 `[1, max_length]`."""
    return {name: tf.TensorSpec([1, max_length], tf.int32, name) for name in INPUTS.values()}


def answers(task, ids, mask, segment_ids):
    """The one output that MediaPipe expects: probabilities `[1, labels]`, or `[1, dim]`."""
    inputs = {"token_ids": ids, "padding_mask": mask > 0, "segment_ids": segment_ids}
    name = ANSWERS[type(task)]
    return {name: task.answers(inputs)[name]}


def add_metadata(model, task):
    """Into a `ModelT` of TFLite: which tensor is what, and which files go with them."""
    from ai_edge_litert import schema_py_generated as tflite_schema

    schema = _schema()

    def file(name, kind):
        made = schema.AssociatedFileT()
        made.name, made.type = name, kind
        return made

    def tensor(name, *files):
        made = schema.TensorMetadataT()
        made.name, made.associatedFiles = name, list(files)
        return made

    options = schema.BertTokenizerOptionsT()
    options.vocabFile = [file(VOCABULARY, schema.AssociatedFileType.VOCABULARY)]
    tokenizing = schema.ProcessUnitT()
    tokenizing.optionsType = schema.ProcessUnitOptions.BertTokenizerOptions
    tokenizing.options = options
    labels = [file(LABELS, schema.AssociatedFileType.TENSOR_AXIS_LABELS)] if _labels(task) else []

    graph = schema.SubGraphMetadataT()
    names = {found.tensorIndex: found.name.decode() for found in model.signatureDefs[0].inputs}
    graph.inputTensorMetadata = [tensor(names[index]) for index in model.subgraphs[0].inputs]
    graph.outputTensorMetadata = [tensor(ANSWERS[type(task)], *labels)]
    graph.inputProcessUnits = [tokenizing]
    described = schema.ModelMetadataT()
    described.name, described.subgraphMetadata = type(task).__name__, [graph]

    builder = flatbuffers.Builder()
    builder.Finish(described.Pack(builder), METADATA_IDENTIFIER)
    buffer, entry = tflite_schema.BufferT(), tflite_schema.MetadataT()
    buffer.data = np.frombuffer(builder.Output(), np.uint8)
    entry.name, entry.buffer = METADATA_KEY, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]


def files(task):
    """`{name: contents}` that go into the file beside the vocabulary."""
    return {LABELS: "\n".join(_labels(task)) + "\n"} if _labels(task) else {}


def warn_of_other_answers(path, task, examples):
    """Run texts through MediaPipe itself, and count those that it tokenizes otherwise.

    Its tokenizer lowers ASCII letters only and keeps accents; lingxi's is BERT's own.
    """
    name = ANSWERS[type(task)]
    expected = load(path).answers_to(examples)[name]
    errors = np.abs(np.stack([*run(path, task, examples)]) - expected).max(axis=-1)  # [examples]
    if errors.max() > SAME:
        warnings.warn(
            f"MediaPipe's own tokenizer is not BERT's: {(errors > SAME).sum()} of {len(examples)} "
            f"texts get other {name}, by up to {errors.max():.2g}; the worst is "
            f"{examples[int(errors.argmax())]!r}. It lowers only A to Z and keeps accents"
            + ("" if task.tokenizer.lowercase else ", and this vocabulary is cased")
            + '. A file with input="text" has the tokenizer of lingxi inside',
            stacklevel=2,
        )


def run(path, task, texts):
    """What MediaPipe gives for each text, as `answers` orders it: arrays `[labels]` or `[dim]`."""
    from mediapipe import tasks

    base = tasks.BaseOptions(model_asset_path=str(path))
    if isinstance(task, TextEmbedder):
        with tasks.text.TextEmbedder.create_from_options(
            tasks.text.TextEmbedderOptions(base_options=base)
        ) as embedder:
            for text in texts:
                yield np.asarray(embedder.embed(text).embeddings[0].embedding, "float32")
        return
    with tasks.text.TextClassifier.create_from_options(
        tasks.text.TextClassifierOptions(base_options=base)
    ) as classifier:
        for text in texts:
            scores = np.zeros(len(task.labels), "float32")
            for category in classifier.classify(text).classifications[0].categories:
                scores[category.index] = category.score
            yield scores


def _labels(task):
    return task.labels if isinstance(task, TextClassifier) else []


def _schema():
    try:
        return importlib.import_module("mediapipe.tasks.metadata.metadata_schema_py_generated")
    except ImportError as error:
        raise ImportError(
            'input="mediapipe" needs the extra mobile: pip install "lingxi[mobile]"'
        ) from error
