"""What back-translation is worth: MiniLM on a slice of SST-2, and on the same said twice.

    python benchmarks/back_translation.py --folder=runs/back [--minutes=15] [--texts=500]

Two Transformers from random weights learn English to Chinese and back from Tatoeba, at once, each
on half of the processors. Of the texts of each seed `back_translate` makes others by sampling.
Accuracy on the dev set in percent, mean and standard deviation over three seeds: of the texts
alone, of the texts in twice as many epochs, and of both kinds together. The translators and what
they said are kept in the folder, for another run.
"""

import pathlib
import statistics
import time

from absl import app, flags
from common import DATA, describe_machine, sst2
from pairs import SIDE, TOKENS, new_task, report, run_sides, train_lingxi

PRESET, LABELS, LENGTH, BATCH, RATE = "minilm_l6_en_uncased", ["negative", "positive"], 64, 32, 2e-4
SIDES = ["there", "back"]
TEXTS = flags.DEFINE_integer("texts", 500, "of a training", lower_bound=BATCH)
EPOCHS = flags.DEFINE_integer("epochs", 3, "of a training", lower_bound=1)
SEEDS = flags.DEFINE_integer("seeds", 3, "trainings of each kind", lower_bound=2)
TEMPERATURE = flags.DEFINE_float("temperature", 0.5, "of the sampling")
FOLDER = flags.DEFINE_string("folder", None, "of the translators and what they said", required=True)
flags.FLAGS.set_default("minutes", 15.0)
flags.FLAGS.set_default("at_once", True)


def main(_):
    if SIDE.value:
        train_translator(SIDE.value)
        return
    folder = pathlib.Path(FOLDER.value)
    folder.mkdir(parents=True, exist_ok=True)
    if not all((folder / f"{side}.keras").is_file() for side in SIDES):
        run_sides(SIDES)
    measure(folder)


def train_translator(side):
    """English to Chinese, `there`, or `back`."""
    from lingxi.tasks import Translator
    from lingxi.tasks.pair_data import read_pairs

    train, held_out = (
        read_pairs(DATA / "tatoeba_zh_en" / f"{split}.tsv")[:: 1 if side == "there" else -1]
        for split in ("train", "dev")
    )
    translator = new_task(Translator, train, vocab_size=10000)
    batches = translator.pair_batches(*train, TOKENS.value, order="shuffled", seed=1)
    train_lingxi(translator, batches)
    translator.save(pathlib.Path(FOLDER.value) / f"{side}.keras")
    start = time.perf_counter()
    made = translator.translate(held_out[0], beams=1, max_tokens=64, verbose=False)
    report(side, "greedy", made, held_out, ("chrf",), time.perf_counter() - start)


def measure(folder):
    import keras
    import numpy as np

    from lingxi.tasks import TextClassifier, back_translate

    there, back = (keras.saving.load_model(folder / f"{side}.keras") for side in SIDES)
    train, dev = sst2("train"), sst2("dev")
    found = {}
    for seed in range(1, SEEDS.value + 1):
        rows = np.random.default_rng(seed).permutation(len(train[0]))[: TEXTS.value]
        texts, labels = ([side[row] for row in rows] for side in train)
        others = back_translate(
            texts,
            there,
            back,
            cache=folder / "back.sqlite",
            beams=1,
            temperature=TEMPERATURE.value,
            max_tokens=64,
            seed=seed,
        )
        kinds = {
            "plain": (texts, labels, EPOCHS.value),
            "twice as long": (texts, labels, 2 * EPOCHS.value),
            "back-translated": (texts + others, labels + labels, EPOCHS.value),
        }
        for name, (x, y, epochs) in kinds.items():
            keras.utils.set_random_seed(seed)
            task = TextClassifier.from_preset(PRESET, labels=LABELS, max_length=LENGTH)
            options = {"epochs": epochs, "batch_size": BATCH, "seed": seed, "verbose": 0}
            task.fit(x, y, learning_rate=RATE, **options)
            accuracy = task.evaluate(*dev, return_dict=True, verbose=0)["accuracy"]
            found.setdefault(name, []).append(100 * accuracy)
    print(describe_machine())
    for source, other in list(zip(texts, others, strict=True))[:5]:
        print(f"{source!r} -> {other!r}")
    for name, accuracies in found.items():
        gains = [a - b for a, b in zip(accuracies, found["plain"], strict=True)]
        print(
            f"{name:16} {statistics.mean(accuracies):6.2f} ± {statistics.stdev(accuracies):.2f} "
            f"({statistics.mean(gains):+.2f} ± {statistics.stdev(gains):.2f})"
        )


if __name__ == "__main__":
    app.run(main)
