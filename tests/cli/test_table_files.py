"""What commands tell of the tables that they read, and tables that they write."""

import pytest

from lingxi.cli import table_files
from lingxi.data import BadRows


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("good\t1\nbad\t0\n\t\ngood\t0\nodd\n")
    return path


def test_it_says_how_a_file_is_read_and_what_is_left_out(path, capsys):
    examples = table_files.read(path, "text", label_column="label", bad_rows="skip")
    assert examples.texts == ["good", "bad", "good"]
    told = capsys.readouterr().err.splitlines()
    assert "no header" in told[0]
    assert [line.split(":")[2] for line in told[1:3]] == ["3", "5"]
    assert told[3].endswith("a.tsv: 2 bad rows, 3 good ones")


def test_all_bad_rows_are_listed_before_the_error(path, capsys):
    with pytest.raises(BadRows, match=r"a\.tsv:3: a label must be .*and 1 more"):
        table_files.read(path, "text", label_column="label")
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[2] for line in told[:2]] == ["3", "5"]


def test_a_single_bad_row_is_said_once(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("text,label\na,x\nb\n")
    with pytest.raises(BadRows, match=r"a\.csv:3: expected 2 fields"):
        table_files.read(tmp_path / "a.csv", "text", label_column="label")
    assert capsys.readouterr().err == ""


ROWS = [{"text": 'tab\tquote" line\nbreak', "label": "x"}, {"text": "été", "label": "y"}]


def test_write_and_read_again(tmp_path):
    for suffix in (".csv", ".jsonl"):
        path = tmp_path / f"out{suffix}"
        table_files.write(path, ROWS)
        examples = table_files.read(path, "text", label_column="label")
        assert examples.texts == [row["text"] for row in ROWS]
        assert examples.labels == ["x", "y"]
    table_files.write(tmp_path / "out.tsv", ROWS)
    examples = table_files.read(tmp_path / "out.tsv", "text", label_column="label")
    assert examples.texts == ['tab quote" line break', "été"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("old")
    with pytest.raises(TypeError):
        table_files.write(path, [{"text": "a"}, {"text": object()}])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_other_names_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match=r"a\.parquet: the name must end in \.csv, \.tsv or \.j"):
        table_files.write(tmp_path / "a.parquet", [{"a": 1}])
