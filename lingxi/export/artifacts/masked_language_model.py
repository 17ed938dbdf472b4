"""A masked language model in a file."""

from lingxi.answers.batches import stacked
from lingxi.export.artifact import Artifact
from lingxi.tasks.masked_language_model import check_masks, fillings, pieces_of
from lingxi.tasks.masking import with_masks


class ExportedMaskedLanguageModel(Artifact):
    """A `lingxi.tasks.MaskedLanguageModel` in a file."""

    def fill(self, texts, top_k=5, batch_size=None, verbose="auto"):
        """As `MaskedLanguageModel.fill`."""
        if isinstance(texts, str):
            return self.fill([texts], top_k, batch_size, verbose)[0]
        mask = self.metadata["mask_token"]
        check_masks(texts, mask, top_k)
        if not len(texts):
            return []
        answers = stacked(self.batches(texts, batch_size, verbose, "fill"))
        return fillings(texts, pieces_of(answers, self.graph.tokenizer), mask, top_k)

    def tokenized(self, texts, pairs):
        return with_masks(self.graph.tokenizer, texts, self.metadata["max_length"], "max_length")

    def examples(self):
        """lingxi's own sentences, in each of which the middle word is a mask."""
        masked = []
        for text in super().examples():
            words = text.split(" ")
            words[len(words) // 2] = self.metadata["mask_token"]
            masked.append(" ".join(words))
        return masked
