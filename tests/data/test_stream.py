"""Tables that are read while a task trains: order, splits, memory."""

import subprocess
import sys

import pytest

from lingxi.data import BadRows, TableStream


@pytest.fixture
def path(tmp_path):
    """A table of 200 rows, one of them bad."""
    path = tmp_path / "a.csv"
    rows = [f"text {i},{'x' if i % 4 else 'y'}\n" for i in range(200)]
    path.write_text("text,label\n" + "".join([*rows[:50], "bad\n", *rows[50:]]))
    return path


def texts(stream, seed=None):
    return [row.text for row in stream.examples(seed)]


def test_it_knows_its_rows_and_gives_them_in_order(path):
    stream = TableStream(path, bad_rows="skip")
    assert len(stream) == 200
    assert stream.label_counts == {"x": 150, "y": 50}
    assert texts(stream) == [f"text {i}" for i in range(200)]
    assert stream.report.problems["bad"][0].line == 52
    with pytest.raises(BadRows, match=r"a\.csv:52: expected 2 fields"):
        TableStream(path)


def test_a_seed_gives_an_order_and_another_one_another(path):
    stream = TableStream(path, bad_rows="skip", buffer=64)
    first = texts(stream, (1, 0))
    assert sorted(first) == sorted(texts(stream))
    assert first == texts(TableStream(path, bad_rows="skip", buffer=64), (1, 0))
    assert first != texts(stream, (1, 1)) and first != texts(stream)
    rank = {text: place for place, text in enumerate(first)}
    assert min(rank[f"text {i}"] - i for i in range(200)) >= -64


def test_a_row_has_its_number_in_every_order(path):
    for stream in (s := TableStream(path, bad_rows="skip", buffer=64)), s.split(0.25)[1]:
        in_order = list(stream.numbered())
        assert [number for number, _ in in_order] == list(range(len(stream)))
        drawn = list(stream.numbered(3))
        assert drawn != in_order and sorted(drawn) == in_order


def test_its_parts_are_those_of_the_whole(path):
    stream = TableStream(path, bad_rows="skip")
    train, held_out = stream.split(0.25, seed=1)
    assert len(train) + len(held_out) == 200 and 25 < len(held_out) < 75
    assert len(texts(train, 5)) == len(train) and len(texts(held_out)) == len(held_out)
    assert not set(texts(train)) & set(texts(held_out))
    assert train.label_counts + held_out.label_counts == stream.label_counts
    assert train.describe() != held_out.describe() != stream.describe()
    with pytest.raises(ValueError, match="split the whole"):
        train.split(0.5)
    with pytest.raises(ValueError, match="leaves one side empty"):
        stream.split(1e-9)


def test_wrong_arguments_are_errors(path):
    with pytest.raises(ValueError, match="buffer must be at least 1, got 0"):
        TableStream(path, buffer=0)
    with pytest.raises(ValueError, match="label_kind must be one of"):
        TableStream(path, label_kind="class")


READ = """
import resource, sys
from lingxi.data import TableStream

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before = peak()
stream = TableStream(sys.argv[1], buffer=100)
assert sum(1 for _ in stream.examples(1)) == len(stream) == 40_000
assert "tensorflow" not in sys.modules and "numpy" not in sys.modules
print(peak() - before)
"""


def test_memory_does_not_hold_the_file(tmp_path):
    with open(tmp_path / "a.jsonl", "w") as file:
        for i in range(40_000):
            file.write(f'{{"text": "{i} {"word " * 400}", "label": {i % 3}}}\n')
    assert (tmp_path / "a.jsonl").stat().st_size > 80e6
    command = [sys.executable, "-c", READ, tmp_path / "a.jsonl"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 30  # MB
