"""Training on a file larger than memory: resident memory and speed.

    python benchmarks/streaming.py [--task=classify|generate|fill|pairs] [--gigabytes=5]

Writes a file of so many gigabytes and trains a small model on it as `lingxi train --stream` does,
in a process of its own: a classifier on a CSV file, a generator (GPT-2's vocabulary) and a masked
language model (BERT's), without and with pairs of segments, on plain text of lines of about 100
bytes. Without --task one after the other, of 5 GB, 2 GB, 2 GB and 2 GB by default.
"""

import argparse
import functools
import gc
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

from common import DATA, describe_machine, peak_memory, sst2

LIMIT = 2e9  # bytes that the process may have resident
STEPS = 200  # of training
BATCH, LENGTH = 32, 64
BLOCKS = 8  # a batch of the generator, whose logits of 50,257 tokens are the most of its memory
READ = 2000  # batches that are drawn and not trained on
GIGABYTES = {"classify": 5.0, "generate": 2.0, "fill": 2.0, "pairs": 2.0}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=GIGABYTES, default=None)
    parser.add_argument("--gigabytes", type=float, default=None)
    parser.add_argument("--folder", default=None, help="where the file is written; has the room")
    parser.add_argument("--side", default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(SIDES[arguments.task](pathlib.Path(arguments.side))))
        return
    print(describe_machine())
    peaks = [
        measure(task, arguments.gigabytes or GIGABYTES[task], arguments.folder)
        for task in ([arguments.task] if arguments.task else GIGABYTES)
    ]
    if max(peaks) > LIMIT:
        sys.exit("more memory than the limit")


def measure(task, gigabytes, folder):
    """Print what a training on a file costs; the bytes that were resident at most."""
    with tempfile.TemporaryDirectory(dir=folder) as folder:
        path = pathlib.Path(folder) / ("reviews.csv" if task == "classify" else "text.txt")
        (write_table if task == "classify" else write_text)(path, gigabytes * 1e9)
        command = [sys.executable, __file__, f"--task={task}", f"--side={path}"]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(run.stdout.splitlines()[-1])
        size = path.stat().st_size
    count, speed = f"{found['count']:,} {found['unit']}", size / found["prepare"] / 1e6
    print(f"\n{task}\nfile                 {size / 1e9:8.2f} GB, {count}")
    print(f"{found['first']:20} {found['prepare']:8.1f} s, {speed:.0f} MB/s")
    if "again" in found:
        print(f"found again          {found['again']:8.1f} s")
    print(f"reading, shuffled    {found['read']:8,.0f} rows/s")
    print(f"training             {found['train']:8,.0f} rows/s")
    print(f"resident, with TensorFlow alone {found['before'] / 1e9:.2f} GB")
    print(f"resident, at most    {found['peak'] / 1e9:8.2f} GB (limit {LIMIT / 1e9:.0f} GB)")
    return found["peak"]


def write_table(path, size):
    """Reviews put together of real sentences, each text another one."""
    generator = random.Random(0)
    sentences, labels = sst2("train")
    with open(path, "w", encoding="utf-8") as file:
        file.write("text,label\n")
        written = number = 0
        while written < size:
            places = [generator.randrange(len(labels)) for _ in range(20)]
            text = " ".join(sentences[place] for place in places).replace('"', '""')
            written += file.write(f'"{number} {text}",{labels[places[0]]}\n')
            number += 1


def write_text(path, size):
    """Lines of two real sentences, ten of them a document."""
    generator = random.Random(0)
    sentences, _ = sst2("train")
    with open(path, "w", encoding="utf-8") as file:
        written = 0
        while written < size:
            pairs = zip(*(generator.choices(sentences, k=10) for _ in range(2)), strict=True)
            written += file.write("\n".join(map(" ".join, pairs)) + "\n\n")


def classify(path):
    import keras

    from lingxi.data import TableStream
    from lingxi.tasks import TextClassifier

    keras.utils.set_random_seed(0)
    classifier = TextClassifier.from_preset(
        "bert_tiny",
        labels=["negative", "positive"],
        vocabulary=DATA / "vocab/bert_base_uncased/vocab.txt",
        max_length=LENGTH,
    )
    found = {"before": peak_memory(), "unit": "rows", "first": "check and count"}
    stream, found["prepare"] = timed_call(lambda: TableStream(path))
    found["count"] = len(stream)
    start = time.perf_counter()
    for _ in stream.examples(seed=1):
        pass
    found["read"] = len(stream) / (time.perf_counter() - start)
    steps = min(STEPS, len(stream) // BATCH)
    return found | trained(classifier, stream, steps, BATCH)


def generate(path):
    from lingxi.tasks import TextGenerator, language_data
    from lingxi.text import ByteBpeTokenizer
    from lingxi.zoo import Gpt, GptConfig

    tokenizer = ByteBpeTokenizer.from_directory(DATA / "vocab/gpt2")
    sizes = {"hidden_dim": 128, "num_layers": 2, "num_heads": 2, "max_length": LENGTH}
    task = TextGenerator(Gpt(GptConfig(vocab_size=tokenizer.vocab_size, **sizes)), tokenizer)

    def batches(cache):
        return language_data.blocks(path, tokenizer, LENGTH, BLOCKS, True, True, 1, cache)

    return on_tokens(task, path, batches, BLOCKS)


def fill(path, next_sentence=False):
    from lingxi.tasks import MaskedLanguageModel

    task = MaskedLanguageModel.from_preset(
        "bert_tiny",
        vocabulary=DATA / "vocab/bert_base_uncased/vocab.txt",
        max_length=LENGTH,
        next_sentence=next_sentence,
    )

    def batches(cache):
        return task.masked_batches(path, BATCH, LENGTH, True, 1, True, cache)

    return on_tokens(task, path, batches, BATCH)


def on_tokens(task, path, batches, batch_size):
    """What it costs to train on plain text, of which `batches` of a cache are a data set."""
    from lingxi.tasks.token_cache import TokenCache

    cache = TokenCache(path.parent / "tokens")
    found = {"before": peak_memory(), "unit": "tokens", "first": "tokenize and store"}
    found["prepare"] = timed_call(lambda: batches(cache))[1]
    gc.collect()  # what a training does not hold twice
    dataset, found["again"] = timed_call(lambda: batches(cache))
    (stored,) = path.parent.glob("tokens/*/tokens")
    found["count"] = stored.stat().st_size // 2  # bytes of a token of these vocabularies
    _, seconds = timed_call(lambda: [None for _ in dataset.take(READ)])
    found["read"] = READ * batch_size / seconds
    return found | trained(task, dataset, STEPS, batch_size)


def trained(task, x, steps, batch_size):
    """Rows/s of a training, and the most memory until its end."""
    _, seconds = timed_call(lambda: task.fit(x, steps_per_epoch=steps, verbose=0))
    return {"train": steps * batch_size / seconds, "peak": peak_memory()}


def timed_call(call):
    """What a call gives, and its seconds."""
    start = time.perf_counter()
    made = call()
    return made, time.perf_counter() - start


SIDES = {
    "classify": classify,
    "generate": generate,
    "fill": fill,
    "pairs": functools.partial(fill, next_sentence=True),
}

if __name__ == "__main__":
    main()
