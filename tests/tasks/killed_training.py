"""A small training in a process of its own, which kills itself at a given event.

    python -m tests.tasks.killed_training KIND RUN RESULT EVENT

Events are the steps of the training, and what writing a checkpoint asks of the system; the process
gets SIGKILL at the one of that number. If there are not so many, it writes RESULT.
"""

import itertools
import os
import random
import signal
import sys

import keras
import numpy as np

from lingxi.tasks import MaskedLanguageModel, TextClassifier
from lingxi.text import WordPieceTokenizer
from lingxi.training import Checkpoints
from lingxi.zoo import Bert, BertConfig
from tests.conftest import WORDS

EPOCHS = 3


def texts(count, seed=0):
    """Texts of different lengths, and labels that one word of each decides."""
    generator = random.Random(seed)
    found = []
    for _ in range(count):
        label = generator.choice(["bad", "good"])
        words = generator.choices(WORDS.split()[:40], k=generator.randrange(2, 12))
        found.append((" ".join([*words, label]), label))
    return tuple(zip(*found, strict=True))


def backbone_and_tokenizer():
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    vocabulary = [*tokens, *(f"##{letter}" for letter in letters), *dict.fromkeys(WORDS.split())]
    vocabulary = list(dict.fromkeys(vocabulary))
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_dim=16,
        num_layers=1,
        num_heads=2,
        intermediate_dim=32,
        max_length=16,
        dropout=0.1,
        attention_dropout=0.1,
    )
    return Bert(config), WordPieceTokenizer(vocabulary, max_length=16)


def train(kind, resume, callbacks=()):
    """A trained task and its history."""
    keras.utils.set_random_seed(5)
    options = {"epochs": EPOCHS, "batch_size": 16, "learning_rate": 1e-2, "seed": 3, "verbose": 0}
    stop = keras.callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=True)
    options |= {"resume": resume, "callbacks": [stop, *callbacks]}
    if kind == "classifier":
        task = TextClassifier(*backbone_and_tokenizer(), labels=["bad", "good"])
        return task, task.fit(*texts(300), validation_data=texts(40, seed=1), **options).history
    task = MaskedLanguageModel(*backbone_and_tokenizer())
    documents, held_out = (["\n".join(texts(n, seed=n)[0])] for n in (500, 60))
    return task, task.fit(documents, validation_data=held_out, **options).history


def outcome(task, history):
    """Everything that must be the same, as arrays."""
    variables = [*task.variables, *task.optimizer.variables]
    arrays = {f"v{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(variables)}
    return arrays | {f"history {name}": np.array(values) for name, values in history.items()}


def main(kind, run, result, event):
    events = itertools.count()

    def happened():
        if next(events) == int(event):
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(function):
        def call(*args, **kwargs):
            happened()
            return function(*args, **kwargs)

        return call

    class Steps(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            happened()

    os.fsync, os.replace = watched(os.fsync), watched(os.replace)
    checkpoints = Checkpoints(run, every_steps=7)
    np.savez(result, **outcome(*train(kind, checkpoints, [Steps()])))


if __name__ == "__main__":
    main(*sys.argv[1:])
