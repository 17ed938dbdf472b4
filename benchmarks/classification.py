"""What the benchmarks of classifiers share: a training here, and its twin in PyTorch."""

import time

import numpy as np
from peer import peer_logits

BATCH = 32


def compare(new_task, train, held_out, epochs, rate, with_peer, seed):
    """Print the accuracy on held-out texts of a classifier, and of its twin.

    Args:
        new_task: a function that makes the untrained classifier.
        train, held_out: `(text, label)`s.
        epochs, rate: of the training, `rate` at its peak.
        with_peer: whether to train the twin.
        seed: of the head, of dropout and of the order of the examples.
    """
    import keras

    keras.utils.set_random_seed(seed)
    task = new_task()
    train, held_out = (list(zip(*rows, strict=True)) for rows in (train, held_out))
    if with_peer:
        batches = task._raw_batches(*train, BATCH, "shuffled", seed=seed)
        tests = task._raw_batches(*held_out, BATCH, "sorted")
        logits, seconds = peer_logits(task, batches, tests, epochs, rate)
        found = np.concatenate(logits).argmax(-1)
        wanted = np.concatenate([tests[index][1] for index in range(tests.num_batches)])
        report("transformers", np.mean(found == wanted), seconds)
    start = time.perf_counter()
    task.fit(
        *train,
        validation_data=tuple(held_out),
        epochs=epochs,
        batch_size=BATCH,
        learning_rate=rate,
        seed=seed,
        verbose=2,
    )
    seconds = time.perf_counter() - start
    report("lingxi", task.evaluate(*held_out, return_dict=True, verbose=0)["accuracy"], seconds)
    print(f"{task.count_params() / 1e6:.2f} M parameters, {epochs} epochs of {len(train[0])} texts")


def report(side, accuracy, seconds):
    print(f"{side:12} accuracy {accuracy:.4f}, trained in {seconds:.0f} s", flush=True)
