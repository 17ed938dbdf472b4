"""Tables of texts and labels: what each row must hold, and what is wrong with those that do not."""

import collections
import dataclasses
import json
import math
import pathlib
import sys
from typing import NamedTuple

from absl import logging

from lingxi.answers.progress import counted
from lingxi.data import formats
from lingxi.data.formats import Problem, not_utf8, shortened
from lingxi.data.splits import check_share, is_held_out

LABEL_SEPARATOR = "|"  # between the labels of one text
LABEL_KINDS = ("name", "names", "number")
BAD_ROWS = ("stop", "skip")
REMEMBERED = 500_000  # texts among which a repeated one is noticed
KEPT = 100  # problems that a report holds; the others it counts


class BadRows(ValueError):
    """A table has rows that cannot be used; `report` lists them."""

    def __init__(self, message, report):
        super().__init__(message)
        self.report = report


class Row(NamedTuple):
    """One example of a table: a text, or a pair of texts, and its label, names, number or None."""

    line: int
    text: str | tuple
    label: str | list | float | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that is read row after row, in the memory of a few of them.

    A CSV file has a header; its fields may be quoted. A TSV file has a header, or just the two
    columns text and label; its fields are taken as they are, quotes included. A JSONL file has an
    object on each line. A Parquet file, a directory of them, and a directory that
    `datasets.Dataset.save_to_disk` wrote need the extra `parquet`. Text files are in UTF-8.

    Args:
        path: of the file or directory.
        text_column, pair_column: names of the columns of texts and of second texts.
        label_column: name of the column of labels, or None.
        label_kind: "name", which a number may be; "names", a list or joined by "|"; or "number".
        labels: the names that there may be; by default any.
    """

    path: pathlib.Path
    text_column: str = "text"
    pair_column: str | None = None
    label_column: str | None = None
    label_kind: str = "name"
    labels: tuple | None = None

    def __post_init__(self):
        if self.label_kind not in LABEL_KINDS:
            raise ValueError(f"label_kind must be one of {LABEL_KINDS}, got {self.label_kind!r}")
        object.__setattr__(self, "path", pathlib.Path(self.path).expanduser())

    def rows(self):
        """A `Row` or a `Problem` after the other.

        Raises:
            ValueError: nothing of it can be read, or a column is not there. OSError, ImportError.
        """
        columns = [c for c in (self.text_column, self.pair_column, self.label_column) if c]
        for item in formats.rows(self.path, columns):
            if isinstance(item, Problem):
                yield item
                continue
            line, values = item
            try:
                yield Row(line, self._text(values), self._label(values))
            except ValueError as error:
                yield Problem(line, str(error))

    def checked(self, report):
        """The rows that are good, while a `Report` learns of the others."""
        seen = {}  # digest of a text to its line and label
        for item in counted(self.rows(), f"check {self.path.name}", "row"):
            if isinstance(item, Problem):
                report.add(item)
                continue
            report.count(item.label)
            if not any(item.text):
                report.add(Problem(item.line, "the text is empty", "doubtful"))
            if self.label_column:
                label = tuple(item.label) if isinstance(item.label, list) else item.label
                first = seen.get(hash(item.text))
                if first is not None:
                    report.add(_repeated(item.line, label, *first))
                elif len(seen) < REMEMBERED:
                    seen[hash(item.text)] = item.line, label
            yield item

    def _text(self, values):
        text = _checked_text(values[self.text_column])
        return (text, _checked_text(values[self.pair_column])) if self.pair_column else text

    def _label(self, values):
        if self.label_column is None:
            return None
        value = values[self.label_column]
        if self.label_kind == "names":
            if isinstance(value, str):
                value = value.split(LABEL_SEPARATOR) if value.strip() else []
            return [self._name(item) for item in (value if isinstance(value, list) else [value])]
        name = self._name(value)
        if self.label_kind == "name":
            return name
        try:
            number = float(name)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(f"{name!r} is no number")
        return number

    def _name(self, value):
        if isinstance(value, (bool, int, float)):
            value = json.dumps(value)
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"a label must be a name or a number, got {shortened(value)}")
        name = value.strip()
        if problem := not_utf8(name):
            raise ValueError(problem)
        if self.labels is not None and name not in self.labels:
            raise ValueError(f"label {name!r} is none of {', '.join(self.labels)}")
        return sys.intern(name)


class Report:
    """What a pass over a table found.

    Attributes:
        num_rows: good ones.
        label_counts: how many rows have each label.
        problems: `{kind: [Problem, …]}`, the first `KEPT` of each kind.
        problem_counts: `{kind: number}` of all.
    """

    def __init__(self, path):
        self.path = path
        self.num_rows = 0
        self.label_counts = collections.Counter()
        self.problems = collections.defaultdict(list)
        self.problem_counts = collections.Counter()

    @property
    def labels(self):
        """The names of all labels, sorted."""
        return sorted(self.label_counts)

    def count(self, label):
        self.num_rows += 1
        names = label if isinstance(label, list) else [label]
        self.label_counts.update(name for name in names if isinstance(name, str))

    def add(self, problem):
        self.problem_counts[problem.kind] += 1
        if len(self.problems[problem.kind]) < KEPT:
            self.problems[problem.kind].append(problem)

    def lines(self, kind, limit=KEPT):
        """The problems of a kind as `path:line: message`, and how many are left out."""
        lines = [f"{self.path}:{p.line}: {p.message}" for p in self.problems[kind][:limit]]
        more = self.problem_counts[kind] - len(lines)
        return [*lines, f"… and {more} more"] if more else lines

    def check(self, bad_rows):
        """Raise `BadRows` if there are some and `bad_rows` is "stop", or if none is good."""
        if bad_rows not in BAD_ROWS:
            raise ValueError(f"bad_rows must be one of {BAD_ROWS}, got {bad_rows!r}")
        bad = self.problem_counts["bad"]
        if not bad and not self.num_rows:
            raise ValueError(f"{self.path} has no rows")
        if bad and (bad_rows == "stop" or not self.num_rows):
            more = f" (and {bad - 1} more bad rows; bad_rows=skip goes on without them)"
            first = self.problems["bad"][0]
            message = f"{self.path}:{first.line}: {first.message}{more if bad > 1 else ''}"
            raise BadRows(message, self)


@dataclasses.dataclass(frozen=True)
class Examples:
    """The good rows of a table, in memory.

    Attributes:
        path: of the table.
        lines: the line number of each row.
        texts: strings, or pairs of strings.
        labels: names, lists of names or numbers, as the table says; None if not asked for.
        report: a `Report` of all rows.
    """

    path: pathlib.Path
    lines: list
    texts: list
    labels: list | None
    report: Report

    def __len__(self):
        return len(self.texts)

    def split(self, share, seed=0):
        """Two `Examples`, the second with those that `is_held_out` says."""
        check_share(share)
        sides = [is_held_out(text, share, seed) for text in self.texts]
        if len(set(sides)) < 2:
            raise ValueError(
                f"{self.path}: of {len(sides)} rows a share of {share} leaves one side empty; take "
                "more rows or another share or seed"
            )
        return tuple(self._rows([held == side for held in sides]) for side in (False, True))

    def _rows(self, mask):
        def chosen(values):
            return [value for value, yes in zip(values, mask, strict=True) if yes]

        labels = self.labels if self.labels is None else chosen(self.labels)
        return dataclasses.replace(
            self, lines=chosen(self.lines), texts=chosen(self.texts), labels=labels
        )


def read_table(
    path,
    text_column="text",
    pair_column=None,
    label_column=None,
    label_kind="name",
    labels=None,
    bad_rows="stop",
):
    """The `Examples` in a table, after a look at every row.

    A row is bad if it lacks a column, its label is empty, unknown or no number, or it is not UTF-8,
    CSV or JSON; doubtful if its text is empty, or stands in the table already, with the same label
    or another one. `report` lists all of them with their lines.

    Args:
        path, text_column, pair_column, label_column, label_kind, labels: as of `Table`.
        bad_rows: "stop" raises at bad rows, "skip" leaves them out.

    Raises:
        BadRows: a ValueError that names the file and the line of the first bad row. ValueError:
            nothing of it can be read. OSError: it cannot be opened.
    """
    table = Table(path, text_column, pair_column, label_column, label_kind, labels)
    report = Report(table.path)
    rows = list(table.checked(report))
    report.check(bad_rows)
    lines, texts, found = (list(column) for column in zip(*rows, strict=True))
    return Examples(table.path, lines, texts, found if label_column else None, report)


def good_rows(path, items, bad_rows="stop", report=None):
    """A list of those of `items`, what stands in a file, that are no `Problem`.

    Args:
        bad_rows: as of `read_table`.
        report: a `Report` that learns of all; without one a warning counts what is left out.

    Raises:
        BadRows, ValueError: as of `read_table`.
    """
    found = Report(path) if report is None else report
    rows = []
    for item in items:
        if isinstance(item, Problem):
            found.add(item)
        else:
            found.count(None)
            rows.append(item)
    found.check(bad_rows)
    left_out = found.problem_counts["bad"]
    if left_out and report is None:
        logging.warning("%s (bad rows that are left out: %d)", found.lines("bad")[0], left_out)
    return rows


def _checked_text(value):
    if not isinstance(value, str):
        raise ValueError(f"a text must be a string, got {shortened(value)}")
    if problem := not_utf8(value):
        raise ValueError(problem)
    return value


def _repeated(line, label, first_line, first_label):
    if label == first_label:
        return Problem(line, f"the same text and label as in line {first_line}", "doubtful")
    return Problem(
        line,
        f"the text of line {first_line}, labelled {label!r} here, but {first_label!r} there",
        "doubtful",
    )
