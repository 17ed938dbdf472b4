"""An embedder in a file."""

import numpy as np

from lingxi.answers import retrieval
from lingxi.export.artifact import Artifact
from lingxi.text.checked import as_bytes


class ExportedTextEmbedder(Artifact):
    """A `lingxi.tasks.TextEmbedder` in a file."""

    def embed(self, texts, prompt=None, batch_size=None, verbose="auto"):
        """As `TextEmbedder.embed`.

        Raises:
            ValueError: `prompt` names another one than that which is in the file.
        """
        if isinstance(texts, str):
            return self.embed([texts], prompt, batch_size, verbose)[0]
        if prompt is not None:
            texts = self._prompted(texts, prompt)
        batches = self.batches(texts, batch_size, verbose, "embed")
        none = np.zeros((0, self.metadata["dim"]), "float32")
        return np.concatenate([none, *(batch["embedding"] for batch in batches)])

    def similarity(self, a, b):
        """As `TextEmbedder.similarity`."""
        return retrieval.similarity(self.embed, a, b)

    def search(self, queries, corpus, top_k=10, block=retrieval.BLOCK):
        """As `TextEmbedder.search`."""
        prompts = self.metadata["prompts"]
        return retrieval.search(self.embed, prompts, queries, corpus, top_k, block)

    def tokenized(self, texts, pairs):
        return super().tokenized(self.metadata["prompt"].encode() + texts, pairs)

    def _prompted(self, texts, name):
        prompt = retrieval.prompt_named(name, self.metadata["prompts"])
        inside = self.metadata["prompt"]
        if prompt == inside:
            return texts
        if inside:
            raise ValueError(
                f"{self.path} puts {inside!r} before every text, so there is no room for "
                f"{prompt!r}; export an embedder with prompt=''"
            )
        return prompt.encode() + as_bytes(texts, "texts")
