"""Rows of every kind of table, one after the other: `(line, {column: value})` or a `Problem`.

Bytes that are no UTF-8 come as lone surrogates: `Table` says of which rows they make bad ones.
"""

import csv
import itertools
import json
import pathlib
from typing import NamedTuple

BATCH = 1024  # rows of a columnar file that are turned to Python at once


class Problem(NamedTuple):
    """What is wrong in a line of a table (of a columnar one, in a row, from 1 on).

    A "bad" row cannot be used; a "doubtful" one can; a "note" tells how the table is read.
    """

    line: int
    message: str
    kind: str = "bad"


def rows(path, columns):
    """The rows of a table as its name says.

    Args:
        columns: names of those that must be there.

    Raises:
        ValueError: it is no such table, or has no such columns. OSError: it cannot be read.
        ImportError: of a columnar table, without pyarrow.
    """
    return _reader(path)(path, columns)


def shortened(value, length=80):
    """How a value looks, cut where it is long."""
    text = repr(value)
    return text if len(text) <= length else text[:length] + "…"


def not_utf8(text):
    """What is wrong with a string that UTF-8 cannot write, else None."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if 0xDC80 <= code <= 0xDCFF:
            return f"not UTF-8 (byte 0x{code - 0xDC00:02x}); save the file as UTF-8"
        return f"half of a character (\\u{code:04x})"
    return None


def _reader(path):
    if path.is_dir():
        return _read_directory
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise _no_table(path)
    return _READERS[suffix]


def _no_table(path):
    return ValueError(
        f"{path}: the name must end in .csv, .tsv, .jsonl or .parquet, or be that of a "
        "directory with *.parquet files or that `datasets.Dataset.save_to_disk` wrote"
    )


# Text


def _open(path, newline):
    return open(path, encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def _read_csv(path, columns):
    with _open(path, "") as file:
        found = _delimited(file, strict=True)
        first = next(found, (0, []))
        yield from _named(path, first[1], found, columns)


def _read_tsv(path, columns):
    with _open(path, "") as file:
        found = _delimited(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        first = next(found, (0, []))
        header = first[1]
        if len(header) == 2 and len(columns) <= 2 and not set(header) & {*columns, "label"}:
            yield Problem(1, "no header: reading it as text<TAB>label", "note")
            header = [columns[0], columns[1] if len(columns) == 2 else "label"]
            found = itertools.chain([first], found)
        yield from _named(path, header, found, columns)


def _delimited(file, **dialect):
    """Pairs of line number and fields, without the blank lines; or problems."""
    reader = csv.reader(file, **dialect)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            yield Problem(line, f"{error} (is a quote not closed?)")
            continue
        if fields is None:
            return
        if fields:
            yield line, fields


def _named(path, header, found, columns):
    """Pairs of line number and dict, of rows of fields; or problems."""
    if isinstance(header, str):
        raise ValueError(f"{path}:1: {header}")
    header = [name.strip() for name in header]
    if not header:
        raise ValueError(f"{path} is empty")
    unreadable = next(filter(None, map(not_utf8, header)), None)
    if unreadable:
        raise ValueError(f"{path}:1: {unreadable}")
    missing = _missing(columns, header)
    if missing:
        raise ValueError(f"{path}: {missing}")
    for item in found:
        if isinstance(item, Problem):
            yield item
            continue
        line, fields = item
        if len(fields) == len(header):
            yield line, dict(zip(header, fields, strict=True))
        else:
            expected = f"expected {len(header)} fields ({', '.join(header)})"
            yield Problem(line, f"{expected}, got {len(fields)}: {shortened(fields)}")


def _read_jsonl(path, columns):
    with _open(path, "\n") as file:
        is_empty = True
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            is_empty = False
            try:
                row = json.loads(text)
            except json.JSONDecodeError as error:
                yield Problem(line, f"not JSON ({error}): {shortened(text)}")
                continue
            if not isinstance(row, dict):
                yield Problem(line, f"expected a JSON object, got {shortened(row)}")
            elif missing := _missing(columns, row):
                yield Problem(line, missing)
            else:
                yield line, row
    if is_empty:
        raise ValueError(f"{path} is empty")


def _missing(columns, existing):
    """What is wrong with the names of columns, else None."""
    for name in columns:
        if name not in existing:
            return (
                f"no column {name!r}; there are {', '.join(map(repr, existing))}. "
                "Choose with text_column, label_column, pair_column"
            )
    return None


# Columns


def _pyarrow(path):
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            f"{path} is read by pyarrow: pip install 'lingxi[parquet]', or save it as JSONL"
        ) from error
    return pyarrow


def _read_parquet(path, columns):
    arrow = _pyarrow(path)

    def batches(file):
        table = arrow.parquet.ParquetFile(file)
        _check_schema(path, table.schema_arrow, columns)
        yield from table.iter_batches(BATCH, columns=columns)

    return _numbered(_files(path) if path.is_dir() else [path], batches)


def _read_directory(path, columns):
    return (_read_parquet if _is_of_parquet(path) else _read_saved)(path, columns)


def _read_saved(path, columns):
    """What `datasets.Dataset.save_to_disk` wrote; the numbers of labels become their names."""
    arrow, files = _pyarrow(path), _files(path)
    features = json.loads((path / "dataset_info.json").read_text("utf-8"))["features"]
    names = {name: _label_names(features[name]) for name in columns if name in features}
    names = {name: found for name, found in names.items() if found}

    def batches(file):
        with arrow.OSFile(str(file)) as source, arrow.ipc.open_stream(source) as stream:
            _check_schema(path, stream.schema, columns)
            for batch in stream:
                yield batch.select(columns)

    for line, row in _numbered(files, batches):
        yield line, row | {name: _named_label(row[name], names[name]) for name in names}


def _is_of_parquet(path):
    return not (path / "state.json").exists() and any(path.glob("*.parquet"))


def _files(path):
    """The files with the rows of a directory.

    Raises:
        ValueError: it is no data set.
    """
    if _is_of_parquet(path):
        return sorted(path.glob("*.parquet"))
    if (path / "dataset_dict.json").exists():
        splits = json.loads((path / "dataset_dict.json").read_text("utf-8"))["splits"]
        choices = " or ".join(str(path / split) for split in splits)
        raise ValueError(f"{path} has several splits: take {choices}")
    if not (path / "state.json").exists():
        raise _no_table(path)
    state = json.loads((path / "state.json").read_text("utf-8"))
    if state.get("_indices_data_files"):
        raise ValueError(f"{path} is a selection of rows: save dataset.flatten_indices() instead")
    return [path / pathlib.PurePath(file["filename"]).name for file in state["_data_files"]]


def _numbered(files, batches):
    line = 0
    for file in files:
        for batch in batches(file):
            for row in batch.to_pylist():
                line += 1
                yield line, row
    if not line:
        raise ValueError(f"{files[0].parent if len(files) > 1 else files[0]} is empty")


def _check_schema(path, schema, columns):
    missing = _missing(columns, schema.names)
    if missing:
        raise ValueError(f"{path}: {missing}")


def _label_names(feature):
    """The names in a `ClassLabel`, or in a list of them, of `dataset_info.json`; else None."""
    if isinstance(feature, list):
        feature = feature[0]
    inner = feature.get("feature")
    return _label_names(inner) if isinstance(inner, (dict, list)) else feature.get("names")


def _named_label(value, names):
    """The name of a number, or names of several; None of -1, which stands for no label."""
    if isinstance(value, list):
        return [_named_label(item, names) for item in value]
    return names[value] if value is not None and value >= 0 else None


_READERS = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
