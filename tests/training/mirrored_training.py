"""Trains a task on two devices and on one, and prints how far apart their weights end."""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

from lingxi.tasks import TextClassifier, TokenClassifier
from lingxi.training import AdamW

TEXTS = ["a good film", "bad", "the story was long and very cold", "lovely music", "dull"] * 4
LABELS = ["positive", "negative", "negative", "positive", "negative"] * 4
ENTITIES = [[(2, 6, "praise")], [], [(4, 9, "thing")], [(7, 12, "thing")], []] * 4
BATCH = 10


def main(directory):
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    one = tf.distribute.get_strategy()
    apart = {}
    for kind in ("classifier", "classifier by default", "tagger"):
        weights, scores = zip(
            *(train(kind, directory, strategy) for strategy in (one, two)), strict=True
        )
        pairs = zip(*weights, strict=True)
        apart[kind] = max(float(np.abs(a - b).max()) for a, b in pairs)
        apart[f"{kind} scores"] = abs(scores[0] - scores[1])
    print(json.dumps({"replicas": two.num_replicas_in_sync, **apart}))


def train(kind, directory, strategy):
    keras.utils.set_random_seed(3)
    with strategy.scope():
        if kind == "tagger":
            task = TokenClassifier.from_preset(directory, labels=["praise", "thing"])
            data = TEXTS, ENTITIES
        else:
            task = TextClassifier.from_preset(directory)
            data = TEXTS, LABELS
        if kind != "classifier by default":
            task.compile(AdamW(1e-2, weight_decay=0.01, global_clipnorm=1.0, epsilon=1e-3))
    task.fit(*data, epochs=2, batch_size=BATCH, seed=1, verbose=0)
    steps = keras.ops.convert_to_numpy(task.optimizer.iterations)
    assert steps == 4  # not counted by each device
    scores = task.evaluate(*data, batch_size=BATCH, return_dict=True, verbose=0)
    if kind == "tagger":
        task.save_preset(f"{directory}_{kind}")
    return task.get_weights(), scores["loss"]


if __name__ == "__main__":
    main(sys.argv[1])
