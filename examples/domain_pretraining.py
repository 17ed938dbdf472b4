"""Go on with the pretraining of an encoder on texts of your own, then fine-tune it.

    python examples/domain_pretraining.py --texts=corpus.txt --labelled=train.tsv --test=test.tsv

The corpus is plain text: a line is a sentence or a paragraph, blank lines stand between documents.
The lines of the labelled files are `text<TAB>label`.

With --pairs the encoder then learns from a large labelled task, such as entailment, before the one
that counts (supervised pretraining; Phang et al. 2018, "Sentence encoders on STILTs"): what
`save_preset` of any task writes is an encoder for any other. Its lines are
`text<TAB>pair<TAB>label`. A T5 learns from texts and from labelled tasks at the same time, by the
`pairs` of `lingxi.tasks.SpanLanguageModel.fit`.
"""

import pathlib

from absl import app, flags

import lingxi

TEXTS = flags.DEFINE_multi_string("texts", None, "plain text files", required=True)
LABELLED = flags.DEFINE_string("labelled", None, "to fine-tune on", required=True)
PAIRS = flags.DEFINE_string("pairs", None, "labelled pairs to learn from in between")
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

    starts = [PRESET.value, DIRECTORY.value]
    if PAIRS.value:
        starts.append(f"{DIRECTORY.value}_pairs")
        pairs, labels = read(PAIRS.value)
        pairs = [tuple(pair.split("\t")) for pair in pairs]
        teacher = lingxi.tasks.TextClassifier.from_preset(
            DIRECTORY.value, labels=sorted(set(labels)), max_length=LENGTH.value
        )
        teacher.fit(pairs, labels, epochs=2, seed=1)
        teacher.save_preset(starts[-1])

    texts, labels = read(LABELLED.value)
    names = sorted(set(labels))
    for start in starts:
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
