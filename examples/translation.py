"""A translator from nothing but pairs of sentences: trained, evaluated, saved, used.

    python examples/translation.py train.en.gz train.de.gz val.en.gz val.de.gz runs/en_de

Four files with one sentence a line, plain or gzip, and a directory to write to. Needs the extras
`tokenizers` and `metrics`. On Multi30k (29,000 pairs) an epoch takes minutes on two cores.
"""

import sys

import keras

from lingxi.tasks import Translator


def main(train_sources, train_targets, sources, targets, directory):
    keras.utils.set_random_seed(1)
    translator = Translator.from_scratch(train_sources, train_targets, vocab_size=8000)
    translator.fit(
        train_sources,
        train_targets,
        validation_data=(sources, targets),
        validation_metrics=("bleu",),
        epochs=20,
        callbacks=[keras.callbacks.EarlyStopping("val_bleu", mode="max", patience=3)],
        seed=1,
    )
    translator.save_preset(directory)  # transformers' AutoModelForSeq2SeqLM loads it too
    translator = Translator.from_preset(directory)
    print(translator.translate("A man in a blue shirt is standing on a ladder."))
    print(translator.translate(["Two dogs play in the snow."], beams=1, details=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
