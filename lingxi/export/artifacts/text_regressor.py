"""A regressor in a file."""

from lingxi.export.artifact import Artifact


class ExportedTextRegressor(Artifact):
    """A `lingxi.tasks.TextRegressor` in a file."""

    def rate(self, texts, batch_size=None, verbose="auto"):
        """A float for each text, or `(text, pair)` if it takes pairs."""
        batches = self.batches(texts, batch_size, verbose, "rate")
        return [float(score) for batch in batches for score in batch["score"]]
