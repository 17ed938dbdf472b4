"""Loading and running TensorFlow without the log of its C++ libraries."""

import contextlib
import os
import re
import sys
import tempfile

# Lines that no user needs: information, warnings to developers, and that there is no GPU.
_NOISE = re.compile(
    r"[IW]\d{4} |WARNING: All log messages before absl|INFO: |E\d{4} .*failed call to cuInit"
)


@contextlib.contextmanager
def quiet_tensorflow(debug=False):
    """Around the code that first loads or runs TensorFlow: hold back what is written to stderr.

    `TF_CPP_MIN_LOG_LEVEL` does not reach the lines that C++ prints while the libraries load. What
    is not noise is printed when the block ends; with `debug` nothing is held back.
    """
    if debug:
        yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only, once the libraries are loaded
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
            _find_devices()
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            log.seek(0)
            for line in log.read().decode(errors="replace").splitlines(keepends=True):
                if not _NOISE.match(line):
                    sys.stderr.write(line)


def _find_devices():
    """Have TensorFlow look for GPUs now, since it logs the outcome."""
    import tensorflow as tf

    tf.config.list_physical_devices()
