"""MiniLM on SST-2: training throughput beside PyTorch, and accuracy on the dev set.

    python benchmarks/sst2.py [--precision=float32|bfloat16] [--epochs=3]

Throughput at a fixed length of 64 tokens, batch 32: the same model, optimizer, clipping, dropout
and precision (bfloat16: `mixed_bfloat16` here, autocast there), steps taken by turns; and on the
batches of similar length that `fit` makes of raw text, with the share of a step that making them
takes. Then the whole training by `fit`.
"""

import json
import statistics
import time

from absl import app, flags
from common import by_turns, describe_machine, sst2, timed

import lingxi
from lingxi.zoo import preset

PRECISION = flags.DEFINE_enum("precision", "float32", ["float32", "bfloat16"], "of both sides")
EPOCHS = flags.DEFINE_integer("epochs", 3, "of the training on raw text")
SIDES = ["pytorch", "lingxi", "bucketed", "batches"]
SIDE = flags.DEFINE_enum("side", None, SIDES, "internal: time this side's steps")

PRESET = "minilm_l6_en_uncased"
LABELS = ["negative", "positive"]
BATCH, LENGTH, LEARNING_RATE = 32, 64, 5e-5
STEPS = 12  # timed, of each side and turn
BUCKETED_STEPS = 50  # of all lengths: their mean is what counts


def main(_):
    texts, labels = sst2("train")
    if SIDE.value:
        if SIDE.value in ("bucketed", "batches"):
            call = bucketed_step if SIDE.value == "bucketed" else next_batch
            seconds = [statistics.mean(timed(call(texts, labels), BUCKETED_STEPS))]
        else:
            step = pytorch_step if SIDE.value == "pytorch" else fixed_step
            seconds = timed(step(texts, labels), STEPS)
        print(json.dumps(seconds))
        return
    print(describe_machine(), PRECISION.value)
    seconds = by_turns(__file__, SIDES, f"--precision={PRECISION.value}")
    peer, of_batch = seconds["pytorch"], seconds.pop("batches")
    for name, value in seconds.items():
        length = "of similar length" if name == "bucketed" else f"fixed length {LENGTH}"
        ratio = f"{BATCH / value:6.1f} examples/s, {peer / value:.2f} times PyTorch"
        print(f"{name:8} {length:17}: {ratio}", flush=True)
    share = of_batch / seconds["bucketed"]
    print(f"making a batch: {of_batch * 1e3:.2f} ms, {share:.1%} of its step", flush=True)

    import keras

    keras.utils.set_random_seed(1)
    classifier = new_classifier()
    start = time.perf_counter()
    classifier.fit(
        texts,
        labels,
        epochs=EPOCHS.value,
        batch_size=BATCH,
        learning_rate=LEARNING_RATE,
        seed=1,
        verbose=2,
    )
    rate = EPOCHS.value * len(texts) / (time.perf_counter() - start)
    _, accuracy = classifier.evaluate(*sst2("dev"), verbose=0)
    print(f"fit, with its start and tracing: {rate:6.1f} examples/s")
    print(f"dev accuracy after {EPOCHS.value} epochs: {accuracy:.4f}")


def new_classifier():
    return lingxi.tasks.TextClassifier.from_preset(
        PRESET,
        labels=LABELS,
        max_length=LENGTH,
        dtype="mixed_bfloat16" if PRECISION.value == "bfloat16" else None,
    )


def fixed_step(texts, labels):
    """One step of the function that `fit` runs, on texts padded to one length."""
    import tensorflow as tf

    classifier = new_classifier()
    inputs = classifier.tokenizer(texts, max_length=LENGTH, padding="max_length")
    targets = tf.constant([LABELS.index(label) for label in labels])
    dataset = tf.data.Dataset.from_tensor_slices((inputs, targets))
    return train_step(classifier, dataset.repeat().batch(BATCH, drop_remainder=True).prefetch(2))


def bucketed_step(texts, labels):
    """One step of the function that `fit` runs, on the batches that `fit` makes."""
    classifier = new_classifier()
    return train_step(classifier, bucketed(classifier, texts, labels).dataset().repeat())


def next_batch(texts, labels):
    """One batch of those, with nothing behind it that trains."""
    batches = iter(bucketed(new_classifier(), texts, labels).dataset().repeat())
    return lambda: next(batches)


def bucketed(classifier, texts, labels):
    """The batches that `fit` makes."""
    import numpy as np

    from lingxi.tasks.text_data import LengthBucketedBatches

    inputs = classifier.tokenizer(texts, max_length=LENGTH, padding=None)
    targets = np.array([LABELS.index(label) for label in labels], "int32")
    pad_id = classifier.tokenizer.pad_id
    return LengthBucketedBatches(inputs, targets, BATCH, pad_id, "shuffled", seed=1)


def train_step(classifier, dataset):
    classifier.compile()
    classifier.make_train_function()
    batches = iter(dataset)
    classifier.train_on_batch(*next(batches))  # builds the optimizer
    return lambda: classifier.train_function(batches)


def pytorch_step(texts, labels):
    import torch
    import transformers

    torch.manual_seed(1)
    directory = preset.resolve(PRESET)
    tokenizer = transformers.BertTokenizer.from_pretrained(directory)
    model = transformers.BertForSequenceClassification.from_pretrained(directory, num_labels=2)
    model.train()
    inputs = tokenizer(
        texts, max_length=LENGTH, truncation=True, padding="max_length", return_tensors="pt"
    )
    targets = torch.tensor([LABELS.index(label) for label in labels])
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}],
        lr=LEARNING_RATE,
    )
    position = 0

    def step():
        nonlocal position
        rows = slice(position, position + BATCH)
        position = (position + BATCH) % (len(texts) - BATCH)
        batch = {name: values[rows] for name, values in inputs.items()}
        with torch.autocast("cpu", torch.bfloat16, enabled=PRECISION.value == "bfloat16"):
            loss = model(**batch, labels=targets[rows]).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


if __name__ == "__main__":
    app.run(main)
