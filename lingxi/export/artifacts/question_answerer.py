"""A question answerer in a file."""

import functools

from lingxi.answers.batches import stacked
from lingxi.export import examples
from lingxi.export.artifact import Artifact
from lingxi.tasks.answer_reader import AnswerReader
from lingxi.tasks.question_answerer import answers_of, asked


class ExportedQuestionAnswerer(Artifact):
    """A `lingxi.tasks.QuestionAnswerer` in a file."""

    def answer(self, question, context, batch_size=None, verbose="auto"):
        """A `lingxi.tasks.Answer`, or a list of them; arguments as of the task's verb."""
        if isinstance(question, str):
            return self.answer([question], context, batch_size, verbose)[0]
        batches = self.batches(asked(question, context), batch_size, verbose, "answer")
        return [answer for batch in batches for answer in answers_of(batch)]

    def run(self, texts, pairs=None):
        if self.graph.takes_text:
            return self.graph.run(texts, pairs)
        return self._read(self._own_reader, texts, pairs)

    def answers_by_ids(self, texts, task):
        reader = self._reader(task.tokenizer)

        def run(texts, pairs):
            return self._read(reader, texts, pairs)

        return stacked(self.batches(texts, run=run))

    def examples(self):
        pairs = [(question, context) for question, context in examples.PAIRS if context.strip()]
        long = " ".join(examples.TEXTS)
        return [*pairs, ("When did the replacement arrive?", long), ("", long + long)]

    @functools.cached_property
    def _own_reader(self):
        return self._reader(self.graph.tokenizer, pad_to_max_length=True)

    def _reader(self, tokenizer, **options):
        names = ("max_length", "overlap", "max_question", "no_answer")
        return AnswerReader(tokenizer, **{name: self.metadata[name] for name in names}, **options)

    def _read(self, reader, questions, contexts):
        """What the graph of windows answers."""
        cut = reader.cut_graph(questions, contexts)
        found = self.graph.run_ids(cut.inputs)
        answers = reader.answers_graph(contexts, cut.rows, cut.starts, cut.ends, found)
        return {name: values.numpy() for name, values in answers.items()}
