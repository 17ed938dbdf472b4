"""Importing TensorFlow without its start-up log."""

import contextlib
import os
import re
import sys
import tempfile

# A line of C++ log that no user needs: information and warnings, or that there is no GPU.
_NOISE = re.compile(
    r"[IW]\d{4} |WARNING: All log messages before absl|INFO: |E\d{4} .*failed call to cuInit"
)


@contextlib.contextmanager
def quiet_start(debug=False):
    """Around the imports that load TensorFlow: hold back what its C++ code prints meanwhile.

    `TF_CPP_MIN_LOG_LEVEL` does not reach the lines printed while its libraries load. Errors are
    printed when the block ends; everything is, if the block fails or `debug` is set.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only, from now on
    if debug or "tensorflow" in sys.modules:
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        is_noise = _NOISE.match
        try:
            yield
            _find_devices()
        except BaseException:
            is_noise = bool  # of no line of text but an empty one
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            log.seek(0)
            for line in log.read().decode(errors="replace").splitlines(keepends=True):
                if not is_noise(line):
                    sys.stderr.write(line)


def _find_devices():
    """Have TensorFlow look for GPUs now, since it logs the outcome."""
    import tensorflow as tf

    tf.config.list_physical_devices()
