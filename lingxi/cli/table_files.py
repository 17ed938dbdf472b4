"""Tables that commands read and write, and what they tell of them on the way."""

import contextlib
import csv
import json
import pathlib

from lingxi.cli.command import note
from lingxi.data.tables import BadRows, read_table
from lingxi.files import atomic_path

LISTED = 20  # rows of a kind of problem that are printed
WRITTEN = (".csv", ".tsv", ".jsonl")


def read(path, text_column, pair_column=None, label_column=None, **options):
    """The `lingxi.data.Examples` in a table; arguments as of `lingxi.data.read_table`."""
    with listed_rows():
        examples = read_table(path, text_column, pair_column, label_column, **options)
    tell(examples.report, "note", "bad")
    return examples


@contextlib.contextmanager
def listed_rows():
    """Before the error of a table with several bad rows, all of them are printed."""
    try:
        yield
    except BadRows as error:
        if error.report.problem_counts["bad"] > 1:
            tell(error.report, "bad")
        raise


def tell(report, *kinds):
    """Print the problems of those kinds that a `lingxi.data.Report` knows."""
    for kind in kinds:
        for line in report.lines(kind, LISTED):
            note(line)
    left_out = report.problem_counts["bad"]
    if "bad" in kinds and left_out:
        note(f"{report.path}: {left_out} bad rows, {report.num_rows} good ones")


def kind(path):
    """The suffix of a file, one of those that can be written."""
    suffix = pathlib.Path(path).suffix.lower()
    if suffix not in WRITTEN:
        raise ValueError(f"{path}: the name must end in {', '.join(WRITTEN[:-1])} or {WRITTEN[-1]}")
    return suffix


def write(path, rows):
    """Write dicts with the same keys as a file of the kind that its name says, at once or not."""
    suffix = kind(path)
    with (
        atomic_path(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as file,
    ):
        if suffix == ".jsonl":
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        elif suffix == ".csv":
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.write("\t".join(rows[0]) + "\n")
            file.writelines("\t".join(map(one_line, row.values())) + "\n" for row in rows)


def one_line(value):
    """Its text with single spaces for tabs and line breaks, so that it fits a TSV field."""
    return " ".join(str(value).split())
