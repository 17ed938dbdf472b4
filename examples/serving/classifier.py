"""The newest version of an exported classifier, for the servers beside this file.

Needs tensorflow and tensorflow-text, not lingxi.
"""

import logging
import os
import pathlib
import threading
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the tokenizer's operations

MAX_TEXTS, MAX_CHARACTERS = 32, 10_000  # of one request
LOOK_EVERY = 2.0  # seconds, for another version


def checked(texts):
    """`texts` if all can be answered: one that cannot would spoil the batch that it comes into.

    Raises:
        ValueError: saying what is wrong with which.
    """
    if not isinstance(texts, list) or not 1 <= len(texts) <= MAX_TEXTS:
        raise ValueError(f"texts must be a list of 1 to {MAX_TEXTS} strings")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"text {index} must be a string, got {type(text).__name__}")
        if len(text) > MAX_CHARACTERS:
            raise ValueError(
                f"text {index} has {len(text)} characters, but {MAX_CHARACTERS} are allowed"
            )
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"text {index} is no Unicode: it has half a surrogate pair") from None
    return texts


class Classifier:
    """A directory of versions, as `lingxi.export.saved_model` writes it for TensorFlow Serving.

    The highest version is served. When there is a higher one, or this one is removed, another is
    loaded and warmed up while this one goes on answering, and then takes its place. One that cannot
    be loaded, perhaps not yet, is tried again.
    """

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.path = self.newest()
        self.model = self.load(self.path)
        threading.Thread(target=self.watch, daemon=True).start()

    def __call__(self, texts):
        """`{"label": …, "score": …}` for each text of a list."""
        return answers(self.model, texts)

    def newest(self):
        """The path of the highest version."""
        paths = [path.parent for path in self.directory.glob("*/saved_model.pb")]
        versions = {int(path.name): path for path in paths if path.name.isdecimal()}
        if not versions:
            raise FileNotFoundError(
                f"{self.directory} has no version of a SavedModel, such as "
                f"{self.directory}/1/saved_model.pb; lingxi.export.saved_model writes one"
            )
        return versions[max(versions)]

    def load(self, path):
        model = tf.saved_model.load(str(path))
        for texts in ([""], [""] * MAX_TEXTS):  # the first calls take longest
            answers(model, texts)
        return model

    def watch(self):
        while True:
            time.sleep(LOOK_EVERY)
            try:
                path = self.newest()
                if path != self.path:
                    self.model, self.path = self.load(path), path
                    logging.warning("%s is served from now on", path)
            except Exception:
                logging.exception("the version before goes on, because")


def answers(model, texts):
    found = model.signatures["serving_default"](text=tf.constant(texts))
    labels, scores = found["label"].numpy().tolist(), found["score"].numpy().tolist()
    return [
        {"label": label.decode(), "score": score}
        for label, score in zip(labels, scores, strict=True)
    ]
