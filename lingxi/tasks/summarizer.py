"""Summarization: long texts to short ones."""

import keras

from lingxi.tasks.sequence_to_sequence import SequenceToSequence
from lingxi.zoo import T5

T5_PROMPT = "summarize: "


@keras.saving.register_keras_serializable(package="lingxi")
class Summarizer(SequenceToSequence):
    """An encoder–decoder that summarizes, trained on pairs of a text and its summary.

    Arguments and training: see `lingxi.tasks.sequence_to_sequence.SequenceToSequence`. A
    pretrained T5 gets the prompt "summarize: " if no other is given.
    """

    verb = "summarize"

    def summarize(
        self, texts, beams=None, batch_size=None, details=False, verbose="auto", **options
    ):
        """The summary of each text.

        Args:
            texts: a list or array of str, or one str; what is longer than `max_length` tokens is
                cut at its end.
            beams: hypotheses of the beam search, 1 for none; by default as the directory says that
                the model was loaded from, else 4.
            batch_size: texts a step; texts are grouped by length, the answers keep their order.
            details: a `lingxi.tasks.Generation`, with tokens and scores, in place of each str.
            verbose: a progress bar: True, False, or "auto" (for more than 20 batches).
            options: of `lingxi.generation.DecodingOptions` (`max_tokens`, `min_tokens`,
                `no_repeat_ngram`, …), `stop` and `seed`.

        Returns:
            A list of str; of one str a str; where `num_results` is more than one, a list of so
            many in place of each.
        """
        if beams is not None:
            options["beams"] = beams
        return self.write(texts, batch_size, details, verbose, **options)

    @classmethod
    def default_prompt(cls, backbone):
        return T5_PROMPT if isinstance(backbone, T5) else ""
