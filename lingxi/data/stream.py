"""Tables larger than memory, read anew in every epoch."""

import copy
import random

from lingxi.data.splits import check_share, is_held_out
from lingxi.data.tables import Problem, Report, Table


class TableStream:
    """The examples of a table, which `fit` of a task reads while it trains.

        stream = TableStream("reviews.parquet", bad_rows="skip")
        train, dev = stream.split(0.01)
        classifier.fit(train, validation_data=dev)

    With a `pair_column` and a `label_column` of None a translator, a summarizer and an embedder
    learn from it.

    The table is read once to check and count its rows, then once an epoch; in memory are `buffer`
    rows. A buffer mixes neighbours only: shuffle a file that is sorted by label first.

    Args:
        path, text_column, pair_column, label_column, label_kind, labels: as of
            `lingxi.data.Table`.
        bad_rows: "stop" raises at bad rows, "skip" leaves them out.
        buffer: rows from which the next one is drawn.

    Attributes:
        report: a `lingxi.data.Report` of the whole table.
        label_counts: how many of the examples have each label.

    Raises:
        BadRows, ValueError, OSError: as `lingxi.data.read_table`.
    """

    def __init__(
        self,
        path,
        text_column="text",
        pair_column=None,
        label_column="label",
        label_kind="name",
        labels=None,
        bad_rows="stop",
        buffer=10_000,
    ):
        if buffer < 1:
            raise ValueError(f"buffer must be at least 1, got {buffer}")
        self.table = Table(path, text_column, pair_column, label_column, label_kind, labels)
        self.buffer = buffer
        self.report = Report(self.table.path)
        for _ in self.table.checked(self.report):
            pass
        self.report.check(bad_rows)
        self.label_counts = self.report.label_counts
        self._num_examples = self.report.num_rows
        self._part = None  # share, seed and side of a split

    def __len__(self):
        return self._num_examples

    def examples(self, seed=None):
        """`Row`s; in the order of the table, or, with a seed, in another one for each seed."""
        return (row for _, row in self.numbered(seed))

    def numbered(self, seed=None):
        """`(number, Row)` of each of `examples`; 0 is the first one of the table."""
        found = (row for row in self.table.rows() if not isinstance(row, Problem))
        if self._part is not None:
            share, split_seed, side = self._part
            found = (row for row in found if is_held_out(row.text, share, split_seed) == side)
        found = enumerate(found)
        return found if seed is None else _shuffled(found, self.buffer, random.Random(str(seed)))

    def split(self, share, seed=0):
        """Two streams, the second of the rows that `lingxi.data.is_held_out` says."""
        check_share(share)
        if self._part is not None:
            raise ValueError("this stream is a part of its table; split the whole")
        sides = [copy.copy(self), copy.copy(self)]
        reports = [Report(self.table.path), Report(self.table.path)]
        for row in self.examples():
            reports[is_held_out(row.text, share, seed)].count(row.label)
        for side, (stream, report) in enumerate(zip(sides, reports, strict=True)):
            if not report.num_rows:
                raise ValueError(
                    f"{self.table.path}: of {len(self)} rows a share of {share} leaves one side "
                    "empty; take more rows or another share or seed"
                )
            stream._part = share, seed, bool(side)
            stream._num_examples, stream.label_counts = report.num_rows, report.label_counts
        return tuple(sides)

    def describe(self):
        """What must be the same for the same examples, as a dict for JSON."""
        return {
            "examples": len(self),
            "path": str(self.table.path.absolute()),
            "columns": [self.table.text_column, self.table.pair_column, self.table.label_column],
            "labels": dict(sorted(self.label_counts.items())),
            "buffer": self.buffer,
            "part": self._part and list(self._part),
        }


def _shuffled(rows, size, generator):
    """The rows, each drawn from a buffer of so many."""
    held = []
    for row in rows:
        if len(held) < size:
            held.append(row)
            continue
        place = generator.randrange(size)
        yield held[place]
        held[place] = row
    generator.shuffle(held)
    yield from held
