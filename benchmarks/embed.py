"""MiniLM's embeddings of real sentences, lingxi beside `sentence_transformers`: sentences/s.

The same weights, float32, batches of 32; both sort the sentences by length themselves. The calls
take turns.
"""

import csv
import os
import tempfile

import numpy as np
from absl import app, flags
from common import DATA, call_by_call, describe_machine, sst2, take_turns

SIDES = ["sentence_transformers", "lingxi"]
SIDE = flags.DEFINE_enum("side", None, SIDES, "internal: time this side")
FOLDER = flags.DEFINE_string("folder", None, "internal: where each side leaves its embeddings")
SENTENCES = flags.DEFINE_integer("sentences", 10_000, "how many")
ROUNDS = flags.DEFINE_integer("rounds", 3, "timed calls of each side")
MODEL = "minilm_l6_en_uncased"
BATCH_SIZE = 32


def main(_):
    texts = sentences(SENTENCES.value)
    if SIDE.value:
        embed = lingxi_embed() if SIDE.value == "lingxi" else sentence_transformers_embed()
        np.save(os.path.join(FOLDER.value, SIDE.value), embed(texts))
        take_turns(lambda: embed(texts))
        return
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        arguments = f"--folder={folder}", f"--sentences={len(texts)}"
        costs = call_by_call(__file__, SIDES, *arguments, rounds=ROUNDS.value)
        theirs, ours = (np.load(os.path.join(folder, f"{side}.npy")) for side in SIDES)
    for side, cost in costs.items():
        rate, memory = len(texts) / cost.seconds, cost.memory / 1e6
        print(f"{side}: {rate:.0f} sentences/s, {memory:.0f} MB at its peak")
    peer, own = (cost.seconds for cost in costs.values())
    print(f"{len(texts)} sentences: lingxi is {peer / own:.2f} times as fast", end=", ")
    print(f"greatest difference of the embeddings {np.abs(ours - theirs).max():.1e}")


def sentences(count):
    """Film reviews, then questions of bank customers."""
    texts = [text for split in ("train", "dev") for text in sst2(split)[0]]
    with open(DATA / "banking77" / "train.csv", encoding="utf-8", newline="") as file:
        texts += [row["text"] for row in csv.DictReader(file)]
    if len(texts) < count:
        raise ValueError(f"there are only {len(texts)} sentences")
    return texts[:count]


def lingxi_embed():
    import lingxi

    embedder = lingxi.tasks.TextEmbedder.from_preset(MODEL)
    return lambda texts: embedder.embed(texts, batch_size=BATCH_SIZE, verbose=False)


def sentence_transformers_embed():
    from sentence_transformers import SentenceTransformer

    from lingxi.zoo import preset

    model = SentenceTransformer(str(preset.resolve(MODEL)), device="cpu")
    return lambda texts: model.encode(texts, batch_size=BATCH_SIZE, show_progress_bar=False)


if __name__ == "__main__":
    app.run(main)
