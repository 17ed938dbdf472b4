"""MiniLM over real sentences, `embed` or `tag`: sentences/s beside the peer's own call.

    python benchmarks/sentences.py --verb=embed|tag [--sentences=10000] [--precision=bfloat16]

Peers: `sentence_transformers`, and the pipeline "token-classification" of `transformers`. The same
weights (of the tagger's head, random ones) and precision, batches of 32; every side sorts by length
if it can. The sides take turns, a thousand sentences a call. A third side bounds both: PyTorch's
matrix products of the blocks on as many tokens, without padding and without all else.
"""

import csv
import itertools
import os
import tempfile

import numpy as np
from absl import app, flags
from common import DATA, call_by_call, describe_machine, sst2, take_turns

VERB = flags.DEFINE_enum("verb", "embed", ["embed", "tag"], "what to do")
SIDES = ["peer", "lingxi", "products"]
SIDE = flags.DEFINE_enum("side", None, SIDES, "internal: time this side")
FOLDER = flags.DEFINE_string("folder", None, "internal: of the model, and of what the sides say")
SENTENCES = flags.DEFINE_integer("sentences", 10_000, "how many")
PRECISION = flags.DEFINE_enum("precision", "float32", ["float32", "bfloat16"], "of all sides")
MODEL = "minilm_l6_en_uncased"
BATCH_SIZE, PART = 32, 1000
TYPES = ["person", "place", "thing"]


def main(_):
    texts = sentences(SENTENCES.value)
    parts = [texts[start : start + PART] for start in range(0, len(texts), PART)]
    if SIDE.value == "products":
        turn = itertools.cycle(tokens_of_batches(parts))
        call = products()
        take_turns(lambda: call(next(turn)))
        return
    if SIDE.value:
        call = CALLS[VERB.value, SIDE.value]()
        np.save(os.path.join(FOLDER.value, SIDE.value), answers_as_numbers(call(parts[0])))
        turn = itertools.cycle(parts)
        take_turns(lambda: call(next(turn)))
        return
    print(describe_machine(), PRECISION.value)
    with tempfile.TemporaryDirectory() as folder:
        save_model(folder)
        arguments = [f"--verb={VERB.value}", f"--folder={folder}", f"--sentences={len(texts)}"]
        arguments.append(f"--precision={PRECISION.value}")
        costs = call_by_call(__file__, SIDES, *arguments, rounds=len(parts))
        theirs, ours = (np.load(os.path.join(folder, f"{side}.npy")) for side in SIDES[:2])
    for side, cost in costs.items():
        rate, memory = len(parts[0]) / cost.seconds, cost.memory / 1e6
        print(f"{side}: {rate:.0f} sentences/s, {memory:.0f} MB at its peak")
    peer, own, bound = (costs[side].seconds for side in SIDES)
    print(f"{VERB.value}: lingxi is {peer / own:.2f} times as fast", end=", ")
    print(f"no more than {peer / bound:.2f} times is possible by the products", end=", ")
    print(f"greatest difference {np.abs(ours - theirs).max():.1e}")


def sentences(count):
    """Film reviews, then questions of bank customers."""
    texts = [text for split in ("train", "dev") for text in sst2(split)[0]]
    with open(DATA / "banking77" / "train.csv", encoding="utf-8", newline="") as file:
        texts += [row["text"] for row in csv.DictReader(file)]
    if len(texts) < count:
        raise ValueError(f"there are only {len(texts)} sentences")
    return texts[:count]


def save_model(folder):
    import keras

    import lingxi

    if VERB.value == "embed":
        return
    keras.utils.set_random_seed(1)
    task = lingxi.tasks.TokenClassifier.from_preset(MODEL, labels=TYPES, max_length=128)
    task.head.kernel.assign(task.head.kernel.value * 10.0)  # so that there is something to find
    task.save_preset(os.path.join(folder, "model"))


def answers_as_numbers(answers):
    """Embeddings; or how many types of entities each sentence has."""
    if isinstance(answers, np.ndarray):
        return answers
    return np.array([float(count) for count in answers])


def lingxi_embed():
    import lingxi

    embedder = lingxi.tasks.TextEmbedder.from_preset(MODEL, dtype=PRECISION.value)
    return lambda texts: embedder.embed(texts, batch_size=BATCH_SIZE, verbose=False)


def sentence_transformers_embed():
    from sentence_transformers import SentenceTransformer

    from lingxi.zoo import preset

    options = {"device": "cpu", "model_kwargs": {"dtype": PRECISION.value}}
    model = SentenceTransformer(str(preset.resolve(MODEL)), **options)
    return lambda texts: model.encode(texts, batch_size=BATCH_SIZE, show_progress_bar=False)


def lingxi_tag():
    import lingxi

    folder = os.path.join(FOLDER.value, "model")
    task = lingxi.tasks.TokenClassifier.from_preset(folder, dtype=PRECISION.value)

    def call(texts):
        found = task.tag(texts, batch_size=BATCH_SIZE, verbose=False)
        return [len({e.label for e in entities}) for entities in found]

    return call


def transformers_tag():
    import transformers

    pipeline = transformers.pipeline(
        "token-classification",
        os.path.join(FOLDER.value, "model"),
        aggregation_strategy="first",
        batch_size=BATCH_SIZE,
        device="cpu",
        dtype=PRECISION.value,
    )

    def call(texts):
        return [len({e["entity_group"] for e in entities}) for entities in pipeline(texts)]

    return call


def tokens_of_batches(parts):
    """How many tokens, without padding, the batches of each part have, sorted by length."""
    from lingxi.text import from_directory
    from lingxi.zoo import preset

    tokenizer = from_directory(preset.resolve(MODEL))
    for texts in parts:
        lengths = np.sort(tokenizer(texts, padding=None)["token_ids"].row_lengths().numpy())
        yield [int(lengths[i : i + BATCH_SIZE].sum()) for i in range(0, len(lengths), BATCH_SIZE)]


def products():
    """The dense layers of all blocks for batches of so many tokens."""
    import torch

    from lingxi.zoo import preset

    config = preset.read_config(preset.resolve(MODEL), ["bert"])
    dim, inner = config["hidden_size"], config["intermediate_size"]
    shapes = [(dim, 3 * dim), (dim, dim), (dim, inner), (inner, dim)]
    kind = {"dtype": getattr(torch, PRECISION.value)}
    layers = [torch.nn.Linear(*shape, **kind) for shape in shapes] * config["num_hidden_layers"]
    rows = {width: torch.randn(BATCH_SIZE * 512, width, **kind) for width in (dim, inner)}

    def call(batches):
        with torch.inference_mode():
            for tokens in batches:
                for layer in layers:
                    layer(rows[layer.in_features][:tokens])

    return call


CALLS = {
    ("embed", "lingxi"): lingxi_embed,
    ("embed", "peer"): sentence_transformers_embed,
    ("tag", "lingxi"): lingxi_tag,
    ("tag", "peer"): transformers_tag,
}

if __name__ == "__main__":
    app.run(main)
