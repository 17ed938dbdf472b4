"""Models with fewer tokens: most of a small model's weights are its embedding table."""

import dataclasses

import numpy as np

from lingxi.answers.batches import split_pairs
from lingxi.tasks.question_answerer import QuestionAnswerer
from lingxi.tasks.sequence_head import SequenceHead
from lingxi.tasks.text_embedder import TextEmbedder
from lingxi.tasks.token_classifier import TokenClassifier
from lingxi.text.checked import as_bytes
from lingxi.text.trimming import trimmed

READERS = (QuestionAnswerer, SequenceHead, TextEmbedder, TokenClassifier)
FLOAT_BYTES = 4


@dataclasses.dataclass(frozen=True)
class Trimming:
    """What `trim_vocabulary` left out.

    Attributes:
        tokens_before, tokens: of the vocabulary.
        parameters_before, parameters: of the task.
    """

    tokens_before: int
    tokens: int
    parameters_before: int
    parameters: int

    def __str__(self):
        def size(parameters):
            return f"{parameters:,} parameters ({FLOAT_BYTES * parameters / 1e6:.1f} MB in float32)"

        return (
            f"{self.tokens_before:,} tokens, {size(self.parameters_before)} -> "
            f"{self.tokens:,} tokens, {size(self.parameters)}"
        )


def trim_vocabulary(task, texts, keep=()):
    """A task whose tokenizer and embedding table hold only the tokens that texts need.

    These are the special tokens, all single characters (or bytes), the tokens of `texts`, and
    `keep`. A text that needs no others gets the same answers as from `task`, since it has the same
    tokens (`lingxi.text.trimming` has the proof) and their vectors are the same; another one is cut
    into smaller tokens, which the model has seen too.

    Args:
        task: a classifier, regressor, embedder, token classifier or question answerer with a
            WordPiece or byte-level BPE tokenizer; it stays as it is.
        texts: strings, or pairs of them, such as those of the training.
        keep: more tokens, as the vocabulary writes them.

    Returns:
        The new task and a `Trimming`.

    Raises:
        ValueError: a task that chooses among tokens, whose answers depend on all of them; another
            tokenizer; no texts; an unknown token in `keep`. TypeError: an item is no text.
    """
    if not isinstance(task, READERS):
        raise ValueError(
            "trim_vocabulary takes tasks that read: "
            f"{', '.join(kind.__name__ for kind in READERS)} and their kin. A "
            f"{type(task).__name__} does not, or chooses among all tokens"
        )
    columns = [as_bytes(column, "texts") for column in split_pairs(texts) if column is not None]
    texts = [text for column in columns for text in column]
    if not texts:
        raise ValueError("trim_vocabulary needs the texts whose tokens it shall keep, got none")
    prompts = {getattr(task, "prompt", ""), *getattr(task, "prompts", {}).values()} - {""}
    texts += [prompt.encode() + text for prompt in sorted(prompts) for text in texts]
    tokenizer, old_ids = trimmed(task.tokenizer, texts, keep)
    backbone = task.backbone
    config = dataclasses.replace(backbone.config, vocab_size=len(old_ids), pad_id=tokenizer.pad_id)
    backbone = type(backbone).from_config(
        {**backbone.get_config(), "config": dataclasses.asdict(config)}
    )
    copy = type(task)(**{**task.get_config(), "backbone": backbone, "tokenizer": tokenizer})
    for old, new in zip(task.weights, copy.weights, strict=True):
        values = np.array(old)
        for axis, (size, new_size) in enumerate(zip(old.shape, new.shape, strict=True)):
            if size != new_size:
                values = np.take(values, old_ids, axis=axis)
        new.assign(values)
    return copy, Trimming(
        task.tokenizer.vocab_size, tokenizer.vocab_size, task.count_params(), copy.count_params()
    )
