"""Translation: texts of one language to texts of another."""

import keras

from lingxi.tasks.sequence_to_sequence import SequenceToSequence


@keras.saving.register_keras_serializable(package="lingxi")
class Translator(SequenceToSequence):
    """An encoder–decoder that translates, trained on pairs of sentences.

    Arguments and training: see `lingxi.tasks.sequence_to_sequence.SequenceToSequence`.
    """

    verb = "translate"

    def translate(
        self, texts, beams=None, batch_size=None, details=False, verbose="auto", **options
    ):
        """The translation of each text.

        Args:
            texts: a list or array of str, or one str.
            beams: hypotheses of the beam search, 1 for none; by default as the directory says that
                the model was loaded from, else 4.
            batch_size: texts a step; texts are grouped by length, the answers keep their order.
            details: a `lingxi.tasks.Generation`, with tokens and scores, in place of each str.
            verbose: a progress bar: True, False, or "auto" (for more than 20 batches).
            options: of `lingxi.generation.DecodingOptions` (`max_tokens`, `length_penalty`, …),
                `stop` and `seed`.

        Returns:
            A list of str; of one str a str; where `num_results` is more than one, a list of so
            many in place of each.
        """
        if beams is not None:
            options["beams"] = beams
        return self.write(texts, batch_size, details, verbose, **options)
