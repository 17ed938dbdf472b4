"""A classifier in a file."""

from lingxi.answers.classification import classifications
from lingxi.export.artifact import Artifact


class ExportedTextClassifier(Artifact):
    """A `lingxi.tasks.TextClassifier` in a file."""

    def classify(self, texts, batch_size=None, verbose="auto"):
        """A `lingxi.tasks.Classification` for each text, or `(text, pair)` if it takes pairs."""
        labels, multi_label = self.metadata["labels"], self.metadata["multi_label"]
        batches = self.batches(texts, batch_size, verbose, "classify")
        return [
            answer
            for batch in batches
            for answer in classifications(batch["probabilities"], labels, multi_label)
        ]
