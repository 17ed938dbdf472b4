"""An embedder in a file."""

import numpy as np
import tensorflow as tf

from lingxi.export.artifact import Artifact
from lingxi.tasks import retrieval
from lingxi.tasks.text_embedder import prompt_named
from lingxi.text.strings import as_strings


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
        texts = tf.strings.join([self.metadata["prompt"], texts])
        return super().tokenized(texts, pairs)

    def _prompted(self, texts, name):
        prompt, inside = prompt_named(name, self.metadata["prompts"]), self.metadata["prompt"]
        if prompt == inside:
            return texts
        if inside:
            raise ValueError(
                f"{self.path} puts {inside!r} before every text, so there is no room for "
                f"{prompt!r}; export an embedder with prompt=''"
            )
        return tf.strings.join([prompt, as_strings(texts, "texts")])
