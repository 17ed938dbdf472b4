"""Tasks that make text, in a file."""

from lingxi.answers.generation import Generation, before_stop, before_stops, text_of
from lingxi.export.artifact import Artifact
from lingxi.text.checked import as_bytes
from lingxi.text.streaming import TextStream


class ExportedGenerator(Artifact):
    """A task that makes text, in a file. A subclass gives it the task's verb.

    Args:
        num_threads: of a TFLite interpreter.
    """

    def make(self, texts, details=False, verbose="auto", seed=None, **options):
        """What the model makes of texts.

        Args:
            texts: a list or array of str, or one str.
            details: a `lingxi.tasks.Generation` in place of each str; its tokens' own
                log-probabilities are not in the file.
            verbose: a progress bar: True, False, or "auto" (for many batches).
            seed: of what is drawn, where the exported task draws; by default 0.
            options: of a SavedModel `max_tokens`, `temperature`, `top_p`.

        Returns:
            One answer for each text, or of one str just that answer; where the exported
            `num_results` is more than one, a list of so many in place of each.
        """
        if isinstance(texts, str):
            return self.make([texts], details, verbose, seed, **options)[0]
        if seed is not None:
            options["seed"] = seed

        def run(texts, pairs):
            return self.run(texts, pairs, **options)

        rows = []
        for batch in self.batches(texts, None, verbose, self.metadata["verb"], run):
            made = (batch[name] for name in ("token_ids", "lengths", "score"))
            for row, arrays in enumerate(zip(*made, strict=True)):
                rows.append(
                    [
                        Generation(self._text(batch, row, n), float(score), tuple(ids[:count]), ())
                        for n, (ids, count, score) in enumerate(zip(*arrays, strict=True))
                    ]
                )
        if not details:
            rows = [[generation.text for generation in row] for row in rows]
        return rows if self.metadata["num_results"] > 1 else [row[0] for row in rows]

    def _text(self, batch, row, result):
        stop = self.metadata["stop"]
        if "text" in batch:
            return text_of(batch["text"][row, result], stop)
        tokenizer = self.graph.tokenizer
        ids = batch["token_ids"][row, result, : batch["lengths"][row, result]]
        return before_stop(getattr(tokenizer, "target", tokenizer).decode([ids])[0], stop)


class ExportedTextGenerator(ExportedGenerator):
    """A `lingxi.tasks.TextGenerator` in a file."""

    def stream(self, prompt, seed=0):
        """The continuation of `prompt`, piece by piece, by a TFLite file exported `stepwise`.

        Raises:
            ValueError: the file has no signature for a step.
        """
        text = TextStream(self.graph.tokenizer)
        inputs = self.tokenized(as_bytes([prompt], "prompt"), None)

        def pieces():
            for token in self.graph.stream(inputs, seed, self.metadata["searches"]):
                yield text.add(token)
            yield text.finish()

        return before_stops(pieces(), self.metadata["stop"])

    def tokenized(self, texts, pairs):
        tokenizer, room = self.graph.tokenizer, self.metadata["max_length"]
        from lingxi.tasks.prompts import tokenized_prompts  # in TensorFlow, as the tokenizer

        return tokenized_prompts(tokenizer, texts, room, "max_length")

    def generate(self, prompts, **options):
        """As `make`."""
        return self.make(prompts, **options)


class _ExportedSequenceToSequence(ExportedGenerator):
    def tokenized(self, texts, pairs):
        return super().tokenized(self.metadata["prompt"].encode() + texts, pairs)


class ExportedTranslator(_ExportedSequenceToSequence):
    """A `lingxi.tasks.Translator` in a file."""

    def translate(self, texts, **options):
        """As `make`."""
        return self.make(texts, **options)


class ExportedSummarizer(_ExportedSequenceToSequence):
    """A `lingxi.tasks.Summarizer` in a file."""

    def summarize(self, texts, **options):
        """As `make`."""
        return self.make(texts, **options)
