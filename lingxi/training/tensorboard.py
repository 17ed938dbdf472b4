"""TensorBoard with learning rates, gradient norms, answers and token embeddings."""

import functools
import importlib.util
import pathlib
import re

import keras
import numpy as np
import tensorflow as tf

from lingxi.training.evaluation import averaged_weights
from lingxi.training.watching import plain

CONFIG = """embeddings {
  tensor_name: "token_embedding"
  tensor_shape: %d
  tensor_shape: %d
  tensor_path: "token_embedding.bytes"
  metadata_path: "tokens.tsv"
}
"""  # of the projector, a protocol buffer as text


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras' callback, which also writes what one wants to see of a model of texts.

    - `batch_learning_rate` and `batch_gradient_norm`, the norm of all gradients together before
      they are clipped: on the TensorFlow backend with one device, and it costs a pass over them;
    - "answers": what the model says of a few samples after each epoch;
    - the token embeddings of a task of texts, with the tokens, for the projector, at the end.

    It goes on with `fit(…, resume=…)`.

    Args:
        log_dir: directory of the logs.
        samples: texts, or pairs of them, as the verb of the task takes them.
        wanted: the right answer to each, if known, as `RunRecord` takes them.
        update_freq: steps from one row of the curves by step to the next; "epoch" for none.
        projector: whether to write the token embeddings.
        kwargs: of `keras.callbacks.TensorBoard`.

    Raises:
        ImportError: the extra `tensorboard` is not installed.
    """

    def __init__(
        self, log_dir="logs", samples=(), wanted=None, update_freq=10, projector=True, **kwargs
    ):
        if importlib.util.find_spec("tensorboard") is None:
            raise ImportError("TensorBoard is not installed: pip install 'lingxi[tensorboard]'")
        super().__init__(log_dir, update_freq=update_freq, **kwargs)
        self.samples = list(samples)
        self.wanted = None if wanted is None else list(wanted)
        if self.wanted is not None and len(self.wanted) != len(self.samples):
            raise ValueError(
                f"got {len(self.samples)} samples and {len(self.wanted)} right answers; there must "
                "be one for each"
            )
        self.projector = projector
        self._norm = None

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        if self.update_freq != "epoch" and _has_one_device(self.model):
            self._norm = tf.Variable(0.0, trainable=False)
            optimizer = self.model.optimizer
            self._optimizer = getattr(optimizer, "inner_optimizer", optimizer)
            self._optimizer.apply = functools.partial(_measured, self._optimizer, self._norm)
            self.model.make_train_function(force=True)

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if self.summary.should_record_summaries():
            step, rate = self._global_train_batch, float(self.model.optimizer.learning_rate)
            self.summary.scalar("batch_learning_rate", rate, step=step)
            if self._norm is not None:
                self.summary.scalar("batch_gradient_norm", self._norm, step=step)

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if self.samples:
            with averaged_weights(self.model):
                answers = getattr(self.model, self.model.verb)(self.samples)
            with self._val_writer.as_default():
                self.summary.text("answers", self._table(answers), step=epoch)

    def on_train_end(self, logs=None):
        if self._norm is not None:
            del self._optimizer.apply
            self.model.make_train_function(force=True)
            self._norm = None
        if self.projector and hasattr(self.model, "tokenizer"):
            write_projector(self.model, self.log_dir)
        super().on_train_end(logs)

    def _table(self, answers):
        """The samples and answers in Markdown."""
        columns = {"text": self.samples, "answer": answers, "wanted": self.wanted}
        columns = {name: values for name, values in columns.items() if values is not None}
        rows = [columns, ["---"] * len(columns)]
        for text, *values in zip(*columns.values(), strict=True):
            rows.append([_cell(text), *(_cell(in_words(plain(v), text)) for v in values)])
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def get_state(self):
        """What a checkpoint keeps of it."""
        return {"train_batch": self._global_train_batch, "test_batch": self._global_test_batch}

    def set_state(self, state):
        """Go on from a checkpoint."""
        self._global_train_batch = state["train_batch"]
        self._global_test_batch = state["test_batch"]


def _has_one_device(model):
    """Whether the gradients of a step are all in one place of TensorFlow's graph."""
    on_tensorflow = keras.backend.backend() == "tensorflow"
    return on_tensorflow and model.distribute_strategy.num_replicas_in_sync == 1


def _measured(optimizer, norm, grads, trainable_variables=None):
    """`optimizer.apply`, which notes the norm of the gradients."""
    dense = [tf.convert_to_tensor(grad) for grad in grads if grad is not None]
    norm.assign(tf.linalg.global_norm([tf.cast(grad, tf.float32) for grad in dense]))
    type(optimizer).apply(optimizer, grads, trainable_variables)


def write_projector(model, directory):
    """Write the token embeddings of a task, and their tokens, for TensorBoard's projector."""
    directory = pathlib.Path(directory)
    tokens = model.tokenizer.vocabulary
    table = keras.ops.convert_to_numpy(model.backbone.token_embedding.embeddings)[: len(tokens)]
    (directory / "token_embedding.bytes").write_bytes(np.float32(table).tobytes())
    lines = (re.sub(r"\s", "␣", token) or "␀" for token in tokens)
    (directory / "tokens.tsv").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    (directory / "projector_config.pbtxt").write_text(CONFIG % table.shape, "utf-8")


def in_words(answer, text=""):
    """A plain answer in one line: "positive 0.98", or "PER Ada 0.99; LOC London 0.87".

    Args:
        answer: as `plain` makes it.
        text: what it is an answer to: entities that are wanted say only where they stand in it.
    """
    if isinstance(answer, dict):
        labels = ", ".join(answer.get("labels") or [answer.get("label", "")])
        score = answer.get("score")
        parts = (labels, answer.get("text"), None if score is None else f"{score:.2f}")
        return " ".join(part for part in parts if part)
    if isinstance(answer, list):
        if len(answer) == 3 and [type(part) for part in answer] == [int, int, str]:
            start, end, label = answer
            return f"{label} {text[start:end]}"
        return "; ".join(in_words(part, text) for part in answer) or "–"
    return f"{answer:.4g}" if isinstance(answer, float) else str(answer)


def _cell(text):
    """A text, or a pair, as a cell of a table in Markdown."""
    text = text if isinstance(text, str) else " / ".join(text)
    return re.sub(r"([\\|`*_\[\]<>])", r"\\\1", " ".join(text.split()))
