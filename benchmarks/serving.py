"""A BERT-base-sized classifier on 128 tokens: SavedModel beside `transformers` on PyTorch.

Same random weights, same token ids, by turns: milliseconds a call, batch 1 and 8.
"""

import tempfile

import keras
import numpy as np
import tensorflow as tf
import torch
import transformers
from common import by_turns, describe_machine, sst2

import lingxi
from lingxi.zoo import preset

LENGTH = 128
ROUNDS = 15


def main():
    print(describe_machine())
    keras.utils.set_random_seed(1)
    vocabulary = preset.resolve("minilm_l6_en_uncased") / "vocab.txt"
    classifier = lingxi.tasks.TextClassifier.from_preset(
        "bert_base", labels=["negative", "positive"], vocabulary=vocabulary, max_length=LENGTH
    )
    texts, _ = sst2("dev")
    # A head that tells texts apart, so that the agreement of labels means something.
    spread_labels(classifier, texts[:64])
    with tempfile.TemporaryDirectory() as folder:
        classifier.save_preset(f"{folder}/preset")
        reference = transformers.AutoModelForSequenceClassification.from_pretrained(
            f"{folder}/preset"
        ).eval()
        served, reports = {}, {}
        for precision in ("float32", "bfloat16"):
            reports[precision] = lingxi.export.saved_model(
                classifier,
                f"{folder}/{precision}",
                precision=precision,
                examples=texts[:200],
                min_agreement=0.0,
            )
            served[precision] = tf.saved_model.load(str(reports[precision].path))

        print(f"{'batch':>5} {'transformers':>13} {'float32':>9} {'bfloat16':>9}", end="")
        print(f" {'float32 / transformers':>23} {'float32 / bfloat16':>19}")
        for batch in (1, 8):
            ids = np.random.default_rng(0).integers(1000, 30000, (batch, LENGTH))
            seconds = by_turns(runs(reference, served, ids), ROUNDS)
            peer, float32, bfloat16 = seconds.values()
            print(
                f"{batch:5} {peer * 1e3:10.1f} ms {float32 * 1e3:6.1f} ms {bfloat16 * 1e3:6.1f} ms"
                f" {peer / float32:21.2f} x {float32 / bfloat16:17.2f} x"
            )
    for precision, report in reports.items():
        print(
            f"{precision}: {report.size / 1e6:.0f} MB, label agreement "
            f"{report.label_agreement:.1%} on {report.num_examples} texts"
        )


def spread_labels(classifier, texts):
    """Centre the random head on these texts: half of them get each label."""
    logits = classifier.predict(texts, verbose=False)
    kernel, _ = classifier.head.get_weights()
    scale = 4.0 / np.ptp(logits[:, 1] - logits[:, 0])
    middle = np.median(logits, axis=0)
    classifier.head.set_weights([kernel * scale, -middle * scale])


def runs(reference, served, ids):
    ours = {
        "token_ids": tf.constant(ids, tf.int32),
        "segment_ids": tf.zeros(ids.shape, tf.int32),
        "padding_mask": tf.ones(ids.shape, tf.bool),
    }
    theirs = {"input_ids": torch.tensor(ids), "attention_mask": torch.ones(ids.shape).long()}

    def transformers_call():
        with torch.inference_mode():
            reference(**theirs)

    def call(precision):
        signature = served[precision].signatures["token_ids"]
        return lambda: signature(**ours)["probabilities"].numpy()

    return {
        "transformers": transformers_call,
        "float32": call("float32"),
        "bfloat16": call("bfloat16"),
    }


if __name__ == "__main__":
    main()
