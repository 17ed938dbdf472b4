"""Tables of texts and labels: read, checked, split, streamed. None of it needs TensorFlow."""

from lingxi.data.splits import is_held_out
from lingxi.data.stream import TableStream
from lingxi.data.tables import BadRows, Examples, Problem, Report, Row, Table, good_rows, read_table

__all__ = [
    "BadRows",
    "Examples",
    "Problem",
    "Report",
    "Row",
    "Table",
    "TableStream",
    "good_rows",
    "is_held_out",
    "read_table",
]
