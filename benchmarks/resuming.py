"""What it costs to go on with a training: seconds until the next step, beside those of a new one.

    python benchmarks/resuming.py [--preset=minilm_l6_en_uncased]

A classifier on SST-2; the training before was killed in the middle of its first epoch, right after
a checkpoint. Both sides have loaded the model before their time begins, and each is a process of
its own.
"""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from absl import app, flags
from common import by_turns, describe_machine, sst2

import lingxi

PRESET = flags.DEFINE_string("preset", "minilm_l6_en_uncased", "of the classifier")
SIDES = ["new", "resumed"]
SIDE = flags.DEFINE_enum("side", None, [*SIDES, "killed"], "internal: run this side")
FOLDER = flags.DEFINE_string("folder", None, "internal: of the checkpoints")
TURNS, STEPS, BATCH = 3, 20, 32


def main(_):
    if SIDE.value:
        train(SIDE.value)
        return
    print(describe_machine(), PRESET.value)
    with tempfile.TemporaryDirectory() as folder:
        arguments = f"--preset={PRESET.value}", f"--folder={folder}"
        subprocess.run([sys.executable, __file__, "--side=killed", *arguments], check=True)
        size = max(path.stat().st_size for path in pathlib.Path(folder).rglob("*.safetensors"))
        seconds = {side: [] for side in SIDES}
        for _ in range(TURNS):
            for side, value in by_turns(__file__, SIDES, *arguments, turns=1).items():
                seconds[side].append(value)
            shutil.rmtree(os.path.join(folder, "new"))
    new, resumed = (statistics.median(seconds[side]) for side in SIDES)
    print(f"until the first step is done: {new:.1f} s of a new training, {resumed:.1f} s of one")
    print(f"that goes on from a checkpoint of {size / 1e6:.0f} MB: {resumed - new:+.1f} s")


def train(side):
    """Train until the first step is done, and print its seconds; `killed`, until a checkpoint."""
    import keras

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if side != "killed":
                print(json.dumps([time.perf_counter() - start]), flush=True)
            if side != "killed" or batch == STEPS:
                os._exit(0)

    keras.utils.set_random_seed(1)
    classifier = lingxi.tasks.TextClassifier.from_preset(
        PRESET.value, labels=["negative", "positive"], max_length=64
    )
    data = sst2("train")
    folder = os.path.join(FOLDER.value, "new" if side == "new" else "killed")
    start = time.perf_counter()
    classifier.fit(
        *data,
        batch_size=BATCH,
        seed=1,
        resume=lingxi.training.Checkpoints(folder, every_steps=STEPS),
        callbacks=[Clock()],
        verbose=0,
    )


if __name__ == "__main__":
    app.run(main)
