"""Training on a file larger than memory: resident memory and rows/s.

Writes a CSV file of so many gigabytes, checks it and trains a small classifier on it as
`lingxi train --stream` does, in a process of its own. The 5 GB of the default take half an hour.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

from common import describe_machine, peak_memory, sst2

LIMIT = 2e9  # bytes that the process may have resident
STEPS = 200  # of training, each of 32 texts


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=5.0)
    parser.add_argument("--folder", default=None, help="where the file is written; has the room")
    parser.add_argument("--side", default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(train(arguments.side)))
        return
    print(describe_machine())
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = pathlib.Path(folder) / "reviews.csv"
        write(path, arguments.gigabytes * 1e9)
        command = [sys.executable, __file__, f"--side={path}"]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(run.stdout.splitlines()[-1])
        size = path.stat().st_size
    print(f"file                 {size / 1e9:8.2f} GB, {found['rows']:,} rows")
    print(f"check and count      {found['check']:8.1f} s, {size / found['check'] / 1e6:.0f} MB/s")
    print(f"reading, shuffled    {found['rows'] / found['read']:8,.0f} rows/s")
    print(f"training             {found['texts'] / found['train']:8,.0f} texts/s")
    print(f"resident, with TensorFlow alone {found['before'] / 1e9:.2f} GB")
    print(f"resident, at most    {found['peak'] / 1e9:8.2f} GB (limit {LIMIT / 1e9:.0f} GB)")
    if found["peak"] > LIMIT:
        sys.exit("more memory than the limit")


def write(path, size):
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


def train(path):
    import keras

    from lingxi.data import TableStream
    from lingxi.tasks import TextClassifier
    from lingxi.zoo import preset

    keras.utils.set_random_seed(0)
    vocabulary = preset.resolve("minilm_l6_en_uncased") / "vocab.txt"
    classifier = TextClassifier.from_preset(
        "bert_tiny", labels=["negative", "positive"], vocabulary=vocabulary, max_length=64
    )
    found = {"before": peak_memory()}
    start = time.perf_counter()
    stream = TableStream(path)
    found["check"] = time.perf_counter() - start
    found["rows"] = len(stream)
    start = time.perf_counter()
    for _ in stream.examples(seed=1):
        pass
    found["read"] = time.perf_counter() - start
    steps = min(STEPS, len(stream) // 32)
    start = time.perf_counter()
    classifier.fit(stream, steps_per_epoch=steps, verbose=0)
    found["train"] = time.perf_counter() - start
    return found | {"texts": steps * 32, "peak": peak_memory()}


if __name__ == "__main__":
    main()
