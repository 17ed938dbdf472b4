"""Go on with the pretraining of an encoder on texts of your own, then fine-tune it.

    python examples/domain_pretraining.py --texts=corpus.txt --labelled=train.tsv --test=test.tsv

The corpus is plain text: a line is a sentence or a paragraph, blank lines stand between documents.
The lines of the labelled files are `text<TAB>label`.
"""

import pathlib

from absl import app, flags

import lingxi

TEXTS = flags.DEFINE_multi_string("texts", None, "plain text files", required=True)
LABELLED = flags.DEFINE_string("labelled", None, "to fine-tune on", required=True)
TEST = flags.DEFINE_string("test", None, "to compare on", required=True)
PRESET = flags.DEFINE_string("preset", "minilm_l6_en_uncased", "an encoder, or a directory of one")
EPOCHS = flags.DEFINE_integer("epochs", 3, "over the corpus")
LENGTH = flags.DEFINE_integer("length", 128, "tokens of a sequence")
DIRECTORY = flags.DEFINE_string("directory", "runs/domain", "where to save the encoder")


def main(_):
    model = lingxi.tasks.MaskedLanguageModel.from_preset(PRESET.value, max_length=LENGTH.value)
    # A checkpoint without a head for tokens gets a new one: then give it a few epochs.
    paths = [pathlib.Path(path) for path in TEXTS.value]
    model.fit(paths, epochs=EPOCHS.value, learning_rate=1e-4, seed=1)
    for filling in model.fill(f"this is {model.mask_token} .")[0]:
        print(f"{filling.score:.3f} {filling.text}")
    model.save_preset(DIRECTORY.value)  # AutoModelForMaskedLM of transformers reads it, too

    texts, labels = read(LABELLED.value)
    names = sorted(set(labels))
    for start in (PRESET.value, DIRECTORY.value):
        classifier = lingxi.tasks.TextClassifier.from_preset(
            start, labels=names, max_length=LENGTH.value
        )
        classifier.fit(texts, labels, epochs=3, seed=1, verbose=0)
        scores = classifier.evaluate(*read(TEST.value), return_dict=True, verbose=0)
        print(f"from {start}: accuracy {scores['accuracy']:.1%}")


def read(path):
    lines = pathlib.Path(path).read_text("utf-8").splitlines()
    rows = [line.rsplit("\t", 1) for line in lines if line]
    return [text for text, _ in rows], [label for _, label in rows]


if __name__ == "__main__":
    app.run(main)
