"""Reading inputs and the right answers to them, for each verb of a task."""

import pathlib

from absl import flags

from lingxi.cli import table_files


def define_columns(values):
    """The flags that name the columns of a table."""
    flags.DEFINE_string("text_column", "text", "`NAME` of the column of texts.", flag_values=values)
    flags.DEFINE_string(
        "pair_column", None, "`NAME` of the column of second texts, for pairs.", flag_values=values
    )
    flags.DEFINE_string(
        "label_column", "label", "`NAME` of the column of labels.", flag_values=values
    )


def read(path, verb, facts, columns):
    """`(inputs, wanted)` as `lingxi.export.quality.measured` takes them.

    Args:
        path: of a table; of a CoNLL or JSONL file for "tag"; of SQuAD's form for "answer".
        facts: what the task says of itself.
        columns: flags that `define_columns` defined.
    """
    if verb == "tag":
        from lingxi.tasks.tagged_data import read_tagged

        examples = read_tagged(pathlib.Path(path).expanduser())
        return [e.text for e in examples], [e.entities for e in examples]
    if verb == "answer":
        from lingxi.tasks import squad

        questions = squad.read_questions(path)
        wanted = [[text for text, _ in question.answers] for question in questions]
        return [(question.question, question.context) for question in questions], wanted
    if verb == "embed" and not columns.pair_column:
        raise ValueError(
            "an embedder is measured on pairs of texts and their similarities: name the column of "
            "the second texts by --pair_column"
        )
    options = {"label_kind": "number"}
    if verb == "classify":
        kind = "names" if facts["multi_label"] else "name"
        options = {"label_kind": kind, "labels": facts["labels"]}
    examples = table_files.read(
        path, columns.text_column, columns.pair_column, columns.label_column, **options
    )
    return examples.texts, examples.labels
