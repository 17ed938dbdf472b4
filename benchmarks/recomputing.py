"""Gradient checkpointing: memory and time of a training step of BERT-base, with it and without.

python benchmarks/recomputing.py [--batch=16] [--length=256]
"""

import contextlib

from absl import app, flags
from common import call_by_call, describe_machine, take_turns

SIDES = ["plain", "recomputed"]
SIDE = flags.DEFINE_enum("side", None, SIDES, "internal: time this side")
BATCH = flags.DEFINE_integer("batch", 16, "texts a step")
LENGTH = flags.DEFINE_integer("length", 256, "tokens a text")
ROUNDS = 3


def main(_):
    if SIDE.value:
        steps(SIDE.value)
        return
    print(describe_machine())
    arguments = f"--batch={BATCH.value}", f"--length={LENGTH.value}"
    costs = call_by_call(__file__, SIDES, *arguments, rounds=ROUNDS)
    for side, cost in costs.items():
        print(f"{side:10} {cost.seconds:.2f} s a step, {cost.memory / 1e9:.2f} GB at its peak")
    plain, recomputed = costs.values()
    print(
        f"{recomputed.memory / plain.memory:.2f} of the memory, "
        f"{recomputed.seconds / plain.seconds:.2f} of the time"
    )


def steps(side):
    import keras
    import numpy as np
    import tensorflow as tf

    from lingxi import training
    from lingxi.zoo import Bert

    keras.utils.set_random_seed(1)
    model = Bert.from_preset("bert_base", load_weights=False)
    optimizer = keras.optimizers.AdamW(1e-5)
    optimizer.build(model.trainable_variables)
    shape = BATCH.value, LENGTH.value
    ids = np.random.default_rng(1).integers(1000, 20_000, shape, np.int32)
    inputs = {
        "token_ids": tf.constant(ids),
        "padding_mask": tf.ones(shape, tf.bool),
        "segment_ids": tf.zeros(shape, tf.int32),
    }

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            loss = tf.reduce_mean(tf.square(outputs["sequence_output"] - 0.1))
        weights = model.trainable_weights
        gradients = tape.gradient(loss, weights)
        pairs = [pair for pair in zip(gradients, weights, strict=True) if pair[0] is not None]
        optimizer.apply_gradients(pairs)
        return loss

    around = training.recomputed if side == "recomputed" else contextlib.nullcontext
    with around(model):
        take_turns(lambda: step().numpy())


if __name__ == "__main__":
    app.run(main)
