"""Strings that nobody expects, through a SavedModel and a TFLite file: no crash, the same answers.

    python benchmarks/fuzz.py [--strings=100000] [--seed=0]

A small classifier with the vocabulary of MiniLM is exported to take raw text. Random strings of
every kind below, as bytes, go through each artifact in a process of its own, in batches of one kind
and of mixed ones, and through the Keras model. Printed are, for each kind, the labels that differ
and the greatest difference of a probability; a process that dies is reported with the batch that
it had begun. The exit status is 1 if anything is wrong.
"""

import collections
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import app, flags
from common import describe_machine

STRINGS = flags.DEFINE_integer("strings", 100_000, "how many")
SEED = flags.DEFINE_integer("seed", 0, "of the strings")
SIDES = ["keras", "saved_model", "model.tflite"]  # and where each lies in the folder
SIDE = flags.DEFINE_enum("side", None, SIDES, "internal: answer all strings")
FOLDER = flags.DEFINE_string("folder", None, "internal: of the artifacts, strings and answers")
BATCH, MAX_LENGTH = 50, 32
TOLERANCE = 1e-5  # of a probability
MEGABYTE = 10**6
EMOJI = "😀👍🏽👩🏿‍🚀👨‍👩‍👧‍👦🏳️‍🌈🇩🇪🇨🇳🏴󠁧󠁢󠁳󠁣󠁴󠁿❤️‍🔥✊🏿🫠"
RIGHT_TO_LEFT = "שָׁלוֹם עולם مرحبا بالعالم \u202b\u202e\u200f\u2067؟ ـــ לֹא نَعَم"
BLANKS = " \t\n\r\v\f\u00a0\u1680\u2003\u2028\u2029\u202f\u3000\u200b\ufeff\u0085"
SPECIAL = ("[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]", "##", "##ing", "[cls]", "</s>")


def main(_):
    if SIDE.value:
        answer_all(SIDE.value, pathlib.Path(FOLDER.value))
        return
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(compare(pathlib.Path(folder)))


def compare(folder):
    """The exit status."""
    strings, kinds = random_strings(random.Random(SEED.value), STRINGS.value)
    write(folder / "strings", strings)
    export(folder)
    failures = 0
    wanted = None
    for side in SIDES:
        start = time.perf_counter()
        command = [sys.executable, __file__, f"--side={side}", f"--folder={folder}"]
        status = subprocess.run(command).returncode
        if status:
            print(f"{side}: exit status {status} in batch {(folder / 'batch').read_text()}")
            failures += 1
            continue
        found = np.load(folder / f"{side}.npy")
        rate = len(strings) / (time.perf_counter() - start)
        print(f"{side}: {len(strings)} strings, {rate:.0f} strings/s with the start of its process")
        if side == "keras":
            wanted = found
        else:
            failures += report(found, wanted, kinds)
    return int(failures > 0)


def report(found, wanted, kinds):
    """Prints one line for each kind of strings; how many of them are not as they should be."""
    wrong = 0
    for kind, count in collections.Counter(kinds).items():
        rows = [i for i, other in enumerate(kinds) if other == kind]
        difference = np.abs(found[rows] - wanted[rows])  # [strings, labels]
        bad = int((~np.isfinite(found[rows]).all(axis=1)).sum())
        labels = int((found[rows].argmax(1) != wanted[rows].argmax(1)).sum())
        wrong += bad + labels + int(not difference.max() <= TOLERANCE)
        print(
            f"  {kind:14} {count:6} strings, {bad} not finite, {labels} other labels, "
            f"greatest difference {difference.max():.1e}"
        )
    return wrong


def random_strings(chance, count):
    """`count` byte strings and their kinds, first those of each kind, then mixed ones."""
    names = list(KINDS)
    kinds = sorted(chance.choice(names) for _ in range(count // 2))
    kinds += [chance.choice(names) for _ in range(count - len(kinds))]
    strings = [KINDS[kind](chance) for kind in kinds]
    for row in chance.sample(range(count), max(1, count // 2000)):
        seed = strings[row] or b"a"
        strings[row], kinds[row] = (seed * (MEGABYTE // len(seed) + 1))[:MEGABYTE], "a megabyte"
    return strings, kinds


def _of(alphabet, longest=60):
    """Random strings of an alphabet's characters."""
    return lambda chance: "".join(chance.choices(alphabet, k=chance.randrange(longest))).encode()


def any_unicode(chance):
    points = (chance.randrange(0x110000) for _ in range(chance.randrange(40)))
    return "".join(chr(point) for point in points if not 0xD800 <= point < 0xE000).encode()


def invalid_utf8(chance):
    """Random bytes, or text with a byte changed, or cut within a character."""
    if chance.random() < 0.4:
        return chance.randbytes(chance.randrange(60))
    text = bytearray("a film, ein Café, 你好 👍 привет".encode())
    text[chance.randrange(len(text))] = chance.randrange(256)
    return bytes(text[: chance.randrange(len(text))])


def with_special_tokens(chance):
    words = chance.choices((*SPECIAL, "film", "good", " ", "你", "é"), k=chance.randrange(20))
    return chance.choice(("", " ")).join(words).encode()


KINDS = {
    "ASCII": _of([chr(i) for i in range(128)]),
    "any Unicode": any_unicode,
    "blanks": _of(BLANKS),
    "combining": _of("aeiou\u0300\u0301\u0308\u0327\u0338\u20dd\u1ab0\u0e31ีé한ㄱ가"),
    "control": _of([*map(chr, range(32)), "\x7f", "\u0080", "\u00ad", "\u2060", "a"]),
    "emoji": _of([*EMOJI, "\u200d", "\ufe0f", "\U0001f3fb"]),
    "empty": lambda chance: b"",
    "invalid UTF-8": invalid_utf8,
    "NUL": _of("\0ab "),
    "one long word": lambda chance: chance.choice("aé好").encode() * chance.randrange(1, 3000),
    "right to left": _of(RIGHT_TO_LEFT),
    "special tokens": with_special_tokens,
}


def export(folder):
    import keras

    import lingxi
    from lingxi.zoo import preset

    keras.utils.set_random_seed(1)
    sizes = {"hidden_dim": 64, "num_layers": 1, "num_heads": 2, "intermediate_dim": 128}
    tokenizer = lingxi.text.WordPieceTokenizer.from_directory(
        preset.resolve("minilm_l6_en_uncased"), max_length=MAX_LENGTH
    )
    config = lingxi.zoo.BertConfig(
        **sizes, vocab_size=tokenizer.vocab_size, max_length=MAX_LENGTH, initializer_range=0.2
    )
    labels = ["praise", "complaint", "question", "spam"]
    classifier = lingxi.tasks.TextClassifier(lingxi.zoo.Bert(config), tokenizer, labels)
    classifier.save_preset(folder / "keras")
    lingxi.export.saved_model(classifier, folder / "saved_model")
    lingxi.export.tflite(classifier, folder / "model.tflite", input="text")


def answer_all(side, folder):
    """Writes the probabilities `[strings, labels]` of all strings."""
    strings = read(folder / "strings")
    answer = keras_answer(folder) if side == "keras" else artifact_answer(folder / side)
    answers = []
    for start in range(0, len(strings), BATCH):
        (folder / "batch").write_text(f"{start // BATCH}: {strings[start : start + BATCH]!r:.2000}")
        answers.append(answer(strings[start : start + BATCH]))
    np.save(folder / f"{side}.npy", np.concatenate(answers))


def keras_answer(folder):
    import tensorflow as tf

    import lingxi

    task = lingxi.tasks.load(folder / "keras")
    graph = tf.function(task.serving_function, [tf.TensorSpec([None], tf.string)], autograph=False)
    return lambda texts: graph(tf.constant(texts))["probabilities"].numpy()


def artifact_answer(path):
    import lingxi

    artifact = lingxi.export.load(path)
    return lambda texts: artifact.run(np.array(texts, object))["probabilities"]


def write(path, strings):
    np.save(f"{path}_lengths.npy", [len(string) for string in strings])
    path.write_bytes(b"".join(strings))


def read(path):
    data, start, strings = path.read_bytes(), 0, []
    for length in np.load(f"{path}_lengths.npy"):
        strings.append(data[start : start + length])
        start += length
    return strings


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    app.run(main)
