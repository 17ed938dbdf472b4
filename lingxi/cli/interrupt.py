"""Ctrl-C while a model trains."""

import contextlib
import signal
import sys

import keras

from lingxi.training import Checkpoints


class StopAtInterrupt(keras.callbacks.Callback):
    """Ctrl-C ends the training after its batch, a second one at once.

    Raised wherever Python happens to be, the first could get lost: what is raised while an object
    is destroyed is ignored.
    """

    def __init__(self):
        super().__init__()
        self._asked = False
        self._before = None

    def on_train_begin(self, logs=None):
        self._before = signal.signal(signal.SIGINT, self._handle)

    def on_train_end(self, logs=None):
        signal.signal(signal.SIGINT, self._before)

    def on_train_batch_end(self, batch, logs=None):
        self._check()

    def on_test_batch_end(self, batch, logs=None):
        self._check()

    def _handle(self, number, frame):
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def _check(self):
        if self._asked:
            signal.signal(signal.SIGINT, self._before)
            raise KeyboardInterrupt


@contextlib.contextmanager
def resumable(directory):
    """Around a `fit(…, resume=directory)`: where it ended, and how to go on, in one line.

    Args:
        directory: None leaves everything as it is.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        newest = directory and Checkpoints(directory).newest()
        if newest is None:
            raise
        print(
            f"\nlingxi: interrupted; the same command goes on from {newest.path}", file=sys.stderr
        )
        raise SystemExit(128 + signal.SIGINT) from error
    except FloatingPointError as error:
        raise ValueError(error) from error
