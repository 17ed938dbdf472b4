"""`transformers` fine-tuned on PyTorch beside a task: same weights, batches, steps and schedule."""

import pathlib
import subprocess
import sys
import tempfile

import batches
import numpy as np
from absl import flags

from lingxi.tasks.fine_tuning import LEARNING_RATE

PRECISION = flags.DEFINE_enum(
    "precision",
    "float32",
    ["float32", "bfloat16"],
    "of both sides; bfloat16 is `mixed_bfloat16` here and autocast there",
)


def set_precision():
    """Make what Keras builds from now on compute in `--precision`."""
    import keras

    policy = "mixed_bfloat16" if PRECISION.value == "bfloat16" else "float32"
    keras.config.set_dtype_policy(policy)


def peer_logits(task, train, held_out, epochs, learning_rate=LEARNING_RATE, seed=1):
    """Train a copy of an untrained task in `transformers` and run it on the held-out batches.

    Args:
        task: whose weights it starts from.
        train, held_out: `Batches` of the task.
        epochs, learning_rate: as of `fit`, with its default schedule.
        seed: of its dropout.

    Returns:
        The logits of each held-out batch, arrays (of a `QuestionAnswerer` `[windows, 2, seq]`);
        and the seconds that the training took.
    """
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        task.save_preset(folder / "model")
        batches.write(folder / "train.npz", batches.in_epochs(train, epochs))
        given = (held_out[index] for index in range(held_out.num_batches))
        batches.write(folder / "held_out.npz", given)
        script = pathlib.Path(__file__).with_name("peer_pytorch.py")
        arguments = folder, str(learning_rate), PRECISION.value, str(seed)
        subprocess.run([sys.executable, script, *arguments], check=True)
        with np.load(folder / "logits.npz", allow_pickle=False) as found:
            logits = [found[f"arr_{index}"] for index in range(held_out.num_batches)]
            return logits, float(found["seconds"])
