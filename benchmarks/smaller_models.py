"""MiniLM on SST-2 with fewer weights: LoRA, a student of two blocks, pruning. What each one costs.

    python benchmarks/smaller_models.py [--side=all|lora|student|heads|zeros|int4] [--examples=1000]

Dev accuracy (mean and standard deviation over the seeds), weights that learn and that are there,
training examples/s and classified texts/s; of the first seed the megabytes of its TFLite int8 file,
those of the file zipped, and the accuracy in it. `whole` is MiniLM with all weights, which is also
the teacher and what is pruned; students are trained for twice as many epochs, with a teacher or
without, and pruned models for one epoch more. Zeros stay in their matrices: they make nothing
faster, but what travels zipped smaller. Of int4 the file is an int4 one of every seed, after one
epoch more, with the rounding of int4 in training or without.
"""

import dataclasses
import functools
import math
import pathlib
import statistics
import tempfile
import time
import zlib

from absl import app, flags
from common import describe_machine, sst2

import lingxi

SIDES = {
    "lora": ["LoRA of attention", "LoRA of all products"],
    "student": ["student alone", "student, logits", "student, logits, hidden, values"],
    "heads": ["heads and units -25 %", "heads and units -50 %", "heads and units -75 %"],
    "zeros": ["zeros 50 %", "zeros 75 %", "zeros 90 %"],
    "int4": ["int4", "int4, quantization-aware"],
}
SIDE = flags.DEFINE_enum("side", "all", ["all", *SIDES], "which of them")
EXAMPLES = flags.DEFINE_integer("examples", 1000, "for training")
DEV = flags.DEFINE_integer("dev", None, "for testing, by default all")
EPOCHS = flags.DEFINE_integer("epochs", 3, "of MiniLM's training")
SEEDS = flags.DEFINE_integer("seeds", 3, "trainings of each side")

PRESET, LABELS, LENGTH, BATCH = "minilm_l6_en_uncased", ["negative", "positive"], 64, 32
RATE, LORA_RATE = 2e-4, 1e-3
STUDENT_BLOCKS = (0, 3)  # of MiniLM's six, that the student begins with
EVERYTHING = "attention/|feed_forward/"
FOR_IMPORTANCE = 500  # training texts


def main(_):
    import keras

    train = [column[: EXAMPLES.value] for column in sst2("train")]
    dev = [column[: DEV.value] for column in sst2("dev")]
    print(f"{describe_machine()}: {len(train[0])} sentences, {EPOCHS.value} epochs", flush=True)
    names = [n for side, ns in SIDES.items() if SIDE.value in ("all", side) for n in ns]
    results = {name: [] for name in ["whole", *names]}
    files = {name: [] for name in results}
    for seed in range(1, SEEDS.value + 1):
        keras.utils.set_random_seed(seed)
        whole = new_classifier()
        train_whole = functools.partial(fit, train=train, seed=seed)
        results["whole"].append(measure(whole, train_whole, dev))
        if seed == 1:
            files["whole"].append(exported(whole, dev))
        for name in names:
            keras.utils.set_random_seed(seed)
            task, learn = side_of(name, whole, train, seed)
            results[name].append(measure(task, learn, dev))
            if seed == 1 or name.startswith("int4"):
                quantize = "int4" if name.startswith("int4") else "int8"
                files[name].append(exported(task, dev, quantize))
            print(f"seed {seed}, {name}: {results[name][-1].accuracy:.4f}", flush=True)
    heads = ("accuracy", "learn", "weights", "train/s", "texts/s", "file MB", "zipped", "accuracy")
    widths = (15, 11, 11, 8, 8, 8, 8, 15)
    heads = (f"{head:>{width}}" for head, width in zip(heads, widths, strict=True))
    print(f"\n{'':32}", *heads)
    for name, found in results.items():
        rates = [statistics.median(getattr(r, key) for r in found) for key in ("train", "classify")]
        print(
            f"{name:32} {accuracy_of(found)} {found[0].learning:11,} {found[0].weights:11,} "
            f"{rates[0]:8.0f} {rates[1]:8.0f} {files[name][0].size / 1e6:8.1f} "
            f"{files[name][0].zipped / 1e6:8.1f} {accuracy_of(files[name]):>15}"
        )


def accuracy_of(found):
    """Mean and, of several, standard deviation."""
    accuracies = [each.accuracy for each in found]
    mean = f"{statistics.mean(accuracies):.4f}"
    return f"{mean} ± {statistics.stdev(accuracies):.4f}" if len(found) > 1 else mean


@dataclasses.dataclass(frozen=True)
class Result:
    """What one training has made: accuracy, weights that learn and that are not 0, examples/s."""

    accuracy: float
    learning: int
    weights: int
    train: float
    classify: float


@dataclasses.dataclass(frozen=True)
class File:
    """A quantized TFLite file: its bytes, those when zipped, and how often it is right."""

    size: int
    zipped: int
    accuracy: float


def side_of(name, whole, train, seed):
    """The task of a side, and the function that trains it; `whole` has been trained."""
    learn = functools.partial(fit, train=train, seed=seed)
    if name.startswith("LoRA"):
        task = new_classifier()
        pattern = EVERYTHING if "all" in name else "attention/(query|key_value)"
        lingxi.training.add_lora(task, rank=8, alpha=16, pattern=pattern)
        return task, functools.partial(learn, rate=LORA_RATE)
    if name.startswith("student"):
        task, weights = shallow(), {"labels": 1.0, "logits": 0.0}
        if "logits" in name:
            weights = {"labels": 0.5, "logits": 0.5}
        if "hidden" in name:
            weights |= {"hidden": 0.5, "values": 0.5}
        teaches = lingxi.training.Distiller(task, whole, **weights)
        return task, functools.partial(learn, model=teaches, epochs=2 * EPOCHS.value)
    if name.startswith("int4"):
        learn = fit_rounded if "aware" in name else fit
        return copy_of(whole), functools.partial(learn, train=train, seed=seed, epochs=1)
    share = int(name.split()[-2].strip("-")) / 100
    data = [column[:FOR_IMPORTANCE] for column in train]
    if name.startswith("zeros"):
        pruning = lingxi.training.MagnitudePruning(share, every=5)
        return copy_of(whole), functools.partial(learn, epochs=1, callbacks=[pruning])
    task = lingxi.training.prune_heads(whole, share, data)
    task = lingxi.training.prune_units(task, share, data)
    return task, functools.partial(learn, epochs=1)


def new_classifier():
    return lingxi.tasks.TextClassifier.from_preset(PRESET, labels=LABELS, max_length=LENGTH)


def copy_of(task):
    copy = new_classifier()
    copy.set_weights(task.get_weights())
    return copy


def shallow():
    """A classifier of two blocks, which begins with two of MiniLM's six and its embeddings."""
    whole = new_classifier()
    config = dataclasses.replace(whole.backbone.config, num_layers=len(STUDENT_BLOCKS))
    task = lingxi.tasks.TextClassifier(
        lingxi.zoo.Bert(config), whole.tokenizer, LABELS, max_length=LENGTH
    )
    blocks = [whole.backbone.blocks[number] for number in STUDENT_BLOCKS]
    pairs = list(zip(task.backbone.blocks, blocks, strict=True))
    for part in ("token_embedding", "position_embedding", "segment_embedding", "embedding_norm"):
        pairs.append((getattr(task.backbone, part), getattr(whole.backbone, part)))
    for mine, other in pairs:
        mine.set_weights(other.get_weights())
    return task


def fit(task, train, seed, model=None, epochs=None, rate=RATE, **kwargs):
    """Train `task`, by the `fit` of `model` if given; examples/s."""
    epochs = epochs or EPOCHS.value
    start = time.perf_counter()
    (model or task).fit(
        *train, epochs=epochs, batch_size=BATCH, learning_rate=rate, seed=seed, verbose=0, **kwargs
    )
    return epochs * len(train[0]) / (time.perf_counter() - start)


def fit_rounded(task, **kwargs):
    """`fit` by weights as an int4 file has them."""
    with lingxi.training.quantization_aware(task, bits=4):
        return fit(task, **kwargs)


def measure(task, train, dev):
    """Train a task and look at it."""
    learning = sum(math.prod(variable.shape) for variable in task.trainable_variables)
    rate = train(task)
    if any("lora" in variable.path for variable in task.weights):
        lingxi.training.merge_lora(task)
    task.classify(dev[0][:BATCH])  # traces it
    start = time.perf_counter()
    found = task.classify(dev[0], verbose=False)
    seconds = time.perf_counter() - start
    right = sum(answer.label == label for answer, label in zip(found, dev[1], strict=True))
    weights = sum(int((weight != 0).sum()) for weight in task.get_weights())
    return Result(right / len(found), learning, weights, rate, len(found) / seconds)


def exported(task, dev, quantize="int8"):
    """The TFLite file of a task."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "small.tflite"
        lingxi.export.tflite(
            task, path, quantize, input="ids", examples=dev[0][:50], min_agreement=0.0
        )
        content = path.read_bytes()
        found = lingxi.export.load(path).classify(dev[0], verbose=False)
    right = sum(answer.label == label for answer, label in zip(found, dev[1], strict=True))
    return File(len(content), len(zlib.compress(content)), right / len(found))


if __name__ == "__main__":
    app.run(main)
