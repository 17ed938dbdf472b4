"""`transformers` fine-tuned on PyTorch beside a task: same weights, batches, steps and schedule."""

import pathlib
import pickle
import subprocess
import sys
import tempfile

from lingxi.tasks.fine_tuning import LEARNING_RATE


def peer_logits(task, train, held_out, epochs, learning_rate=LEARNING_RATE):
    """Train a copy of an untrained task in `transformers` and run it on the held-out batches.

    Args:
        task: whose weights it starts from.
        train, held_out: `Batches` of the task.
        epochs, learning_rate: as of `fit`, with its default schedule.

    Returns:
        The logits of each held-out batch, arrays; and the seconds that the training took.
    """
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        task.save_preset(folder / "model")
        work = folder / "work.pickle"
        work.write_bytes(pickle.dumps((train, held_out, epochs, learning_rate)))
        script = pathlib.Path(__file__).with_name("peer_pytorch.py")
        subprocess.run([sys.executable, script, str(folder)], check=True)
        return pickle.loads(work.read_bytes())
