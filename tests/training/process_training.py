"""Trains a task over several processes, and alone; the first prints how far apart they end.

It saves what was trained as DIRECTORY_trained, and its logits as DIRECTORY_logits.npy.

    python -m tests.training.process_training DIRECTORY COORDINATOR PROCESSES ID DISTRIBUTION…
"""

import json
import sys

import keras
import numpy as np

from lingxi import training
from lingxi.tasks import TextClassifier
from lingxi.training.distribution import ModelParallel, agreed, is_in_parts

TEXTS = ["the film was good", "the story was bad", "the music was cold", "a nice warm day"] * 4
TEXTS += ["a very dull day"]  # a batch of one, which no two processes can share
LABELS = ["positive", "negative", "negative", "positive"] * 4 + ["negative"]
BATCH = 8
SPLIT_OF_A_BLOCK = 6  # kernel and bias of two first products, kernel of two second ones


def main(directory, coordinator, processes, process_id, *distributions):
    training.distribute("data_parallel", coordinator, int(processes), int(process_id))
    data_parallel = keras.distribution.distribution()
    np.random.seed(int(process_id))
    seed = training.run_seed(None, None)
    assert seed == agreed(seed)

    found = {}
    if training.is_first_process():
        keras.distribution.set_distribution(None)
        alone = train(directory)
        assert alone["parts"] == 0
        all_rows = flops(alone["task"])
    for name in distributions:
        keras.distribution.set_distribution(
            data_parallel if name == "data_parallel" else ModelParallel(2)
        )
        run = training.Checkpoints(f"{directory}_{name}", every_steps=2)
        together, restored = train(directory, run), train(directory, run)
        np.testing.assert_equal(restored["weights"], together["weights"])
        assert together["parts"] == SPLIT_OF_A_BLOCK * (name == "model_parallel")
        if training.is_first_process():
            pairs = zip(alone["weights"], together["weights"], strict=True)
            found[name] = max(float(np.abs(a - b).max()) for a, b in pairs)
            found[f"{name} history"] = float(np.abs(alone["history"] - together["history"]).max())
            if name == "data_parallel":  # what is not of rows, such as the optimizer, is not less
                assert flops(together["task"]) < 0.75 * all_rows
    logits = together["task"].predict(dict(together["task"].tokenizer(TEXTS)), verbose=0)
    with training.whole_weights(together["task"]):
        if training.is_first_process():
            together["task"].save_preset(f"{directory}_trained")
            np.save(f"{directory}_logits.npy", logits)
    if training.is_first_process():
        print(json.dumps({"processes": training.num_processes(), **found}))


def train(directory, resume=None):
    keras.utils.set_random_seed(3)
    task = TextClassifier.from_preset(directory)
    task.compile(training.AdamW(1e-2, weight_decay=0.01, global_clipnorm=1.0, epsilon=1e-3))
    options = {"epochs": 2, "batch_size": BATCH, "seed": 1, "resume": resume}
    options["validation_data"] = TEXTS[:BATCH], LABELS[:BATCH]
    history = task.fit(TEXTS, LABELS, **options).history
    parts = [variable for variable in task.variables if is_in_parts(variable)]
    for variable in parts:
        (part,) = variable.value.addressable_shards
        assert part.data.size * 2 == variable.value.size
    with training.whole_weights(task):
        weights = task.get_weights()
    history = np.array([*history.values()])
    return {"task": task, "weights": weights, "history": history, "parts": len(parts)}


def flops(task):
    """What a device computes in a step."""
    import jax  # the tests without it read the texts above

    inputs = {name: values.numpy() for name, values in task.tokenizer(TEXTS[:BATCH]).items()}
    state = task._get_jax_state(*[True] * 4)
    step = jax.jit(task.train_step).lower(state, (inputs, np.zeros(BATCH, "int32"), None))
    return step.compile().cost_analysis()["flops"]


if __name__ == "__main__":
    main(*sys.argv[1:])
