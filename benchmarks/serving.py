"""A BERT-base-sized classifier on 128 tokens: SavedModel beside `transformers` on PyTorch.

Same random weights, same token ids: milliseconds a call, batch 1 and 8, the calls taking turns.
"""

import os
import tempfile

import numpy as np
from absl import app, flags
from common import call_by_call, describe_machine, sst2, take_turns

import lingxi
from lingxi.zoo import preset

SIDES = ["transformers", "float32", "bfloat16"]
SIDE = flags.DEFINE_enum("side", None, SIDES, "internal: time this side")
FOLDER = flags.DEFINE_string("folder", None, "internal: of the exported models")
BATCH = flags.DEFINE_integer("batch", 1, "internal: texts a call")
LENGTH = 128
ROUNDS = 30  # of calls


def main(_):
    if SIDE.value:
        ids = np.random.default_rng(0).integers(1000, 30000, (BATCH.value, LENGTH))
        call = transformers_call(ids) if SIDE.value == "transformers" else saved_model_call(ids)
        take_turns(call)
        return
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        reports = export(folder)
        for batch in (1, 8):
            arguments = f"--folder={folder}", f"--batch={batch}"
            costs = call_by_call(__file__, SIDES, *arguments, rounds=ROUNDS // batch + 6)
            peer, float32, bfloat16 = (cost.seconds for cost in costs.values())
            times = ", ".join(f"{side} {c.seconds * 1e3:.1f} ms" for side, c in costs.items())
            print(f"batch {batch}: {times}")
            print(f"  float32 is {peer / float32:.2f} times as fast as transformers", end=", ")
            print(f"bfloat16 {float32 / bfloat16:.2f} times as fast as float32")
    for precision, report in reports.items():
        print(
            f"{precision}: {report.size / 1e6:.0f} MB, label agreement "
            f"{report.label_agreement:.1%} on {report.num_examples} texts"
        )


def export(folder):
    """The same weights for all sides, into `folder`."""
    import keras

    keras.utils.set_random_seed(1)
    classifier = lingxi.tasks.TextClassifier.from_preset(
        "bert_base",
        labels=["negative", "positive"],
        vocabulary=preset.resolve("minilm_l6_en_uncased") / "vocab.txt",
        max_length=LENGTH,
    )
    texts, _ = sst2("dev")
    spread_labels(classifier, texts[:64])
    classifier.save_preset(os.path.join(folder, "transformers"))
    return {
        precision: lingxi.export.saved_model(
            classifier,
            os.path.join(folder, precision),
            precision=precision,
            examples=texts[:200],
            min_agreement=0.0,
        )
        for precision in ("float32", "bfloat16")
    }


def spread_labels(classifier, texts):
    """Centre the random head on these texts, so that the agreement of labels means something."""
    logits = classifier.predict(texts, verbose=False)
    kernel, _ = classifier.head.get_weights()
    scale = 4.0 / np.ptp(logits[:, 1] - logits[:, 0])
    middle = np.median(logits, axis=0)
    classifier.head.set_weights([kernel * scale, -middle * scale])


def transformers_call(ids):
    import torch
    import transformers

    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        os.path.join(FOLDER.value, "transformers")
    ).eval()
    inputs = {"input_ids": torch.tensor(ids), "attention_mask": torch.ones(ids.shape).long()}

    def call():
        with torch.inference_mode():
            model(**inputs)

    return call


def saved_model_call(ids):
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers the tokenizer's operations

    served = tf.saved_model.load(os.path.join(FOLDER.value, SIDE.value, "1"))
    inputs = {
        "token_ids": tf.constant(ids, tf.int32),
        "segment_ids": tf.zeros(ids.shape, tf.int32),
        "padding_mask": tf.ones(ids.shape, tf.bool),
    }
    return lambda: served.signatures["token_ids"](**inputs)["probabilities"].numpy()


if __name__ == "__main__":
    app.run(main)
