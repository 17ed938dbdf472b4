"""A token classifier in a file."""

from lingxi.answers.batches import stacked
from lingxi.export.artifact import Artifact
from lingxi.tasks.entities import EntityReader
from lingxi.tasks.token_classifier import entities_of
from lingxi.text.tags import TagScheme


class ExportedTokenClassifier(Artifact):
    """A `lingxi.tasks.TokenClassifier` in a file."""

    def tag(self, texts, batch_size=None, verbose="auto"):
        """The entities of each text, a list of `lingxi.tasks.Entity`; or of one string."""
        if isinstance(texts, str):
            return self.tag([texts], batch_size, verbose)[0]
        batches = self.batches(texts, batch_size, verbose, "tag")
        return [entities for batch in batches for entities in entities_of(batch)]

    def run(self, texts, pairs=None):
        if self.graph.takes_text:
            return self.graph.run(texts)
        reader = self._reader(self.graph.tokenizer)
        return self._read(reader, texts, reader.cut(texts, pad_to_max_length=True))

    def answers_by_ids(self, texts, task):
        reader = self._reader(task.tokenizer)

        def run(texts, pairs):
            return self._read(reader, texts, reader.cut_graph(texts))

        return stacked(self.batches(texts, run=run))

    def _reader(self, tokenizer):
        facts = self.metadata
        scheme = TagScheme(facts["tags"])
        return EntityReader(tokenizer, scheme, facts["max_length"], facts["overlap"])

    def _read(self, reader, texts, cut):
        """The entities that the graph of token ids finds in the windows of texts."""
        inputs = dict(cut.inputs)
        if not self.metadata["crf"]:
            del inputs["word_starts"]
        answers = self.graph.run_ids(inputs)
        found = reader.entities_graph(texts, cut.tokens, answers["tag_ids"], answers["scores"])
        return {name: values.numpy() for name, values in found.items()}
