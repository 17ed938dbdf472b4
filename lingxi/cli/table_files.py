"""Texts and labels in CSV, TSV and JSONL files, all in UTF-8."""

import csv
import dataclasses
import io
import json
import pathlib

from lingxi.cli.command import note
from lingxi.files import atomic_path

LABEL_SEPARATOR = "|"  # between the labels of one text


@dataclasses.dataclass(frozen=True)
class Examples:
    """The rows of a file.

    Attributes:
        path: of the file.
        lines: the line number of each row.
        texts: strings, or pairs of strings.
        labels: strings; lists of strings if multi-label; None if not asked for.
    """

    path: pathlib.Path
    lines: list
    texts: list
    labels: list | None

    def check_labels(self, known):
        """Raises: ValueError, naming the line, if a label is not one of `known`."""
        for line, labels in zip(self.lines, self.labels, strict=True):
            for label in labels if isinstance(labels, list) else [labels]:
                if label not in known:
                    raise ValueError(
                        f"{self.path}:{line}: label {label!r} is none of {', '.join(known)}"
                    )

    def numbers(self):
        """The labels as floats; raises ValueError, naming the line, if one is no number."""
        values = []
        for line, label in zip(self.lines, self.labels, strict=True):
            try:
                values.append(float(label))
            except ValueError:
                raise ValueError(f"{self.path}:{line}: {label!r} is no number") from None
        return values


def read(path, text_column, pair_column=None, label_column=None, multi_label=False):
    """The `Examples` in a file.

    A CSV file has a header; its fields may be quoted. A TSV file has a header, or just the two
    columns text and label; its fields are taken as they are, quotes included. A JSONL file has an
    object on each line; a label may be a number, and several labels a list.

    Raises:
        ValueError: naming file and line, for anything that is not such a file.
        OSError: it cannot be read.
    """
    path = pathlib.Path(path).expanduser()
    columns = [name for name in (text_column, pair_column, label_column) if name]
    rows = list(_READERS[kind(path)](path, _content(path), columns))
    if not rows:
        raise ValueError(f"{path} has no rows")
    texts = [_text(row[text_column], path, line) for line, row in rows]
    if pair_column:
        pairs = [_text(row[pair_column], path, line) for line, row in rows]
        texts = list(zip(texts, pairs, strict=True))
    labels = None
    if label_column:
        parse = _labels if multi_label else _label
        labels = [parse(row[label_column], path, line) for line, row in rows]
    return Examples(path, [line for line, _ in rows], texts, labels)


def check_readable(path):
    """Raises: ValueError or OSError, if `path` is not a readable file of a kind known here."""
    kind(path)
    pathlib.Path(path).expanduser().open("rb").close()


def kind(path):
    """The suffix of a file, one of those that can be read and written."""
    suffix = pathlib.Path(path).suffix.lower()
    if suffix not in _READERS:
        raise ValueError(f"{path}: the name must end in .csv, .tsv or .jsonl")
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


def _content(path):
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}:{line}: not UTF-8 (byte 0x{error.object[error.start]:02x}); "
            "save the file as UTF-8"
        ) from error


def _read_csv(path, content, columns):
    rows = _delimited(path, content, strict=True)
    _, header = next(rows, (0, []))
    return _named(path, header, rows, columns)


def _read_tsv(path, content, columns):
    rows = _delimited(path, content, delimiter="\t", quoting=csv.QUOTE_NONE)
    first = next(rows, (0, []))
    _, header = first
    if len(header) == 2 and len(columns) <= 2 and not set(header) & {*columns, "label"}:
        note(f"{path} has no header: reading it as text<TAB>label")
        header = [columns[0], columns[1] if len(columns) == 2 else "label"]
        rows = iter([first, *rows])
    return _named(path, header, rows, columns)


def _delimited(path, content, **dialect):
    """Pairs of line number and fields, without the blank lines."""
    reader = csv.reader(io.StringIO(content, newline=""), **dialect)
    line = 1
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}:{line}: {error} (is a quote not closed?)") from error


def _named(path, header, rows, columns):
    """Pairs of line number and dict, of rows of fields."""
    header = [name.strip() for name in header]
    if not header:
        raise ValueError(f"{path} is empty")
    _check_columns(path, header, columns)
    for line, fields in rows:
        if len(fields) != len(header):
            raise ValueError(
                f"{path}:{line}: expected {len(header)} fields ({', '.join(header)}), "
                f"got {len(fields)}: {_shortened(fields)}"
            )
        yield line, dict(zip(header, fields, strict=True))


def _read_jsonl(path, content, columns):
    if not content.strip():
        raise ValueError(f"{path} is empty")
    for line, text in enumerate(content.split("\n"), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{line}: not JSON ({error}): {_shortened(text)}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}:{line}: expected a JSON object, got {_shortened(row)}")
        _check_columns(f"{path}:{line}", row, columns)
        yield line, row


_READERS = {".csv": _read_csv, ".tsv": _read_tsv, ".jsonl": _read_jsonl}


def _check_columns(where, existing, columns):
    for name in columns:
        if name not in existing:
            raise ValueError(
                f"{where}: no column {name!r}; there are {', '.join(map(repr, existing))}. "
                "Choose with --text_column, --label_column, --pair_column"
            )


def _text(value, path, line):
    if not isinstance(value, str):
        raise ValueError(f"{path}:{line}: a text must be a string, got {_shortened(value)}")
    return value


def _label(value, path, line):
    if isinstance(value, (bool, int, float)):
        value = json.dumps(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(
            f"{path}:{line}: a label must be a name or a number, got {_shortened(value)}"
        )
    return value.strip()


def _labels(value, path, line):
    if isinstance(value, str):
        value = value.split(LABEL_SEPARATOR) if value.strip() else []
    values = value if isinstance(value, list) else [value]
    return [_label(item, path, line) for item in values]


def _shortened(value, length=80):
    text = repr(value)
    return text if len(text) <= length else text[:length] + "…"
