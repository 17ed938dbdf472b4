"""Sentiment (SST-2) and entities (WNUT-17) by one MiniLM, beside one MiniLM for each.

    python benchmarks/multi_task.py [--epochs=3] [--sampling=2] [--examples=500]

The same recipe on all sides: what is learnt together, what is learnt alone, and how large the
SavedModels are that serve both.
"""

import functools
import pathlib
import tempfile
import time

from absl import app, flags
from common import DATA, describe_machine, sst2

import lingxi
from lingxi.tasks.tagged_data import read_tagged

EPOCHS = flags.DEFINE_integer("epochs", 3, "of every training")
RATE = flags.DEFINE_float("rate", 1e-4, "peak learning rate")
SAMPLING = flags.DEFINE_float("sampling", 1.0, "temperature; 1 is in proportion to the data")
EXAMPLES = flags.DEFINE_integer("examples", None, "of each task, by default all")
PRESET, BATCH, LENGTH, SEED = "minilm_l6_en_uncased", 16, 96, 1
SCORES = {"sentiment": "accuracy", "names": "f1"}


def main(_):
    import keras

    train, dev = (
        {"sentiment": sst2(split), "names": read_tagged(DATA / "wnut17" / f"{split}.conll")}
        for split in ("train", "dev")
    )
    types = sorted({kind for example in train["names"] for _, _, kind in example.entities})
    makers = {
        "sentiment": functools.partial(
            lingxi.tasks.TextClassifier, labels=["negative", "positive"], max_length=LENGTH
        ),
        "names": functools.partial(lingxi.tasks.TokenClassifier, labels=types, max_length=LENGTH),
    }
    texts, labels = (column[: EXAMPLES.value] for column in train["sentiment"])
    train = {"sentiment": (texts, labels), "names": train["names"][: EXAMPLES.value]}
    sizes = f"{len(texts)} sentences, {len(train['names'])} with entities"
    print(f"{describe_machine()}: {sizes}, {EPOCHS.value} epochs", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        for side in [("sentiment",), ("names",), ("sentiment", "names")]:
            keras.utils.set_random_seed(SEED)
            multi = lingxi.tasks.MultiTask.from_preset(PRESET, {n: makers[n] for n in side})
            start = time.perf_counter()
            multi.fit(
                {name: train[name] for name in side},
                epochs=EPOCHS.value,
                batch_size=BATCH,
                sampling=SAMPLING.value,
                learning_rate=RATE.value,
                seed=SEED,
                verbose=2,
            )
            seconds = time.perf_counter() - start
            found = multi.evaluate({name: dev[name] for name in side}, verbose=0)
            target = pathlib.Path(folder) / "_".join(side)
            report = lingxi.export.saved_model(multi, target)
            scores = ", ".join(f"{n} {SCORES[n]} {found[f'{n}_{SCORES[n]}']:.4f}" for n in side)
            print(
                f"{' + '.join(side):18} {scores}; trained in {seconds:.0f} s, SavedModel "
                f"{report.size / 1e6:.1f} MB",
                flush=True,
            )


if __name__ == "__main__":
    app.run(main)
