"""A T5 that fills spans, in a file."""

import tensorflow as tf

from lingxi.answers.batches import stacked
from lingxi.export.artifact import Artifact
from lingxi.tasks.span_language_model import MOST_SPANS, check_sentinels, filled_text
from lingxi.tasks.span_masking import spans_in, with_sentinels
from lingxi.text.strings import as_strings


class ExportedSpanLanguageModel(Artifact):
    """A `lingxi.tasks.SpanLanguageModel` in a file."""

    def fill(self, texts, batch_size=None, verbose="auto", seed=None, **options):
        """As `SpanLanguageModel.fill`.

        Args:
            texts, batch_size, verbose: as there.
            seed: of what is drawn, where the exported task draws; by default 0.
            options: of a SavedModel `max_tokens`, `temperature`, `top_p`.
        """
        if isinstance(texts, str):
            return self.fill([texts], batch_size, verbose, seed, **options)[0]
        if not len(texts):
            return []
        if seed is not None:
            options["seed"] = seed

        def run(texts, pairs):
            return self.run(texts, pairs, **options)

        answers = stacked(self.batches(texts, batch_size, verbose, "fill", run))
        check_sentinels(texts, answers["count"])
        filled = [
            [filled_text(text, *of_result) for of_result in zip(spans, scores, strict=True)]
            for text, spans, scores in zip(
                as_strings(texts, "texts").numpy(),
                self._spans(answers),
                answers["score"],
                strict=True,
            )
        ]
        return filled if self.metadata["num_results"] > 1 else [row[0] for row in filled]

    def _spans(self, answers):
        """Bytes `[texts, results, MOST_SPANS]`."""
        if "spans" in answers:
            return answers["spans"]
        token_ids, lengths = answers["token_ids"], answers["lengths"].reshape(-1)
        flat = tf.constant(token_ids.reshape(-1, token_ids.shape[-1]))
        spans = spans_in(flat, lengths, self.graph.tokenizer, MOST_SPANS).numpy()
        return spans.reshape(*token_ids.shape[:2], MOST_SPANS)

    def tokenized(self, texts, pairs):
        texts = tf.strings.join([self.metadata["prompt"], texts])
        max_length = self.metadata["max_length"]
        return with_sentinels(self.graph.tokenizer, texts, max_length, "max_length")

    def examples(self):
        """lingxi's own sentences, in each of which the middle word is a sentinel."""
        masked = []
        for text in super().examples():
            words = text.split(" ")
            words[len(words) // 2] = "<extra_id_0>"
            masked.append(" ".join(words))
        return masked
