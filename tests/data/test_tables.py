"""Tables of every kind: what is read, and what is said of rows that cannot be."""

import json
import pathlib
import sys

import pytest

from lingxi.data import BadRows, read_table


@pytest.fixture
def read(tmp_path):
    """A function: read a file of that name and content."""

    def run(name, content, **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(path, **{"label_column": "label"} | options)

    return run


def doubts(examples):
    return [(problem.line, problem.message) for problem in examples.report.problems["doubtful"]]


def test_csv_with_quotes_line_breaks_and_blank_lines(read):
    examples = read("a.csv", 'id,text,label\r\n1,"one, ""two""\nthree",0\r\n\r\n2,four,1\r\n')
    assert examples.texts == ['one, "two"\nthree', "four"]
    assert examples.labels == ["0", "1"]
    assert examples.lines == [2, 5]


def test_byte_order_mark_and_spaces_in_the_header(read):
    examples = read("a.csv", b"\xef\xbb\xbftext, label\n\xc3\xa9t\xc3\xa9,x\n")
    assert (examples.texts, examples.labels) == (["été"], ["x"])


def test_tsv_takes_quotes_as_they_are(read):
    examples = read("a.tsv", 'label\ttext\nx\t"odd\ny\tb" "\n')
    assert (examples.texts, examples.labels) == (['"odd', 'b" "'], ["x", "y"])


def test_tsv_without_a_header(read):
    examples = read("a.tsv", "good\t1\nbad\t0\n")
    assert (examples.texts, examples.labels) == (["good", "bad"], ["1", "0"])
    assert examples.lines == [1, 2]
    assert "no header" in examples.report.lines("note")[0]


def test_tsv_with_a_header_of_other_names(read):
    with pytest.raises(ValueError, match="no column 'text'; there are 'sentence', 'label'"):
        read("a.tsv", "sentence\tlabel\ngood\t1\n")


def test_jsonl_with_numbers_and_a_line_separator_in_a_text(read):
    examples = read("a.jsonl", '{"text": "a\u2028b", "label": 1}\n\n{"label": true, "text": ""}\n')
    assert (examples.texts, examples.labels) == (["a\u2028b", ""], ["1", "true"])
    assert examples.lines == [1, 3]


def test_pairs_and_texts_alone(read):
    examples = read("a.csv", "text,second,label\na,b,x\n", pair_column="second")
    assert examples.texts == [("a", "b")]
    assert read("a.csv", "text\na\n", label_column=None).labels is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,label\na,x|y\nb,\nc, x \n"),
        (
            "a.jsonl",
            '{"text":"a","label":["x","y"]}\n{"text":"b","label":[]}\n{"text":"c","label":"x"}\n',
        ),
    ],
)
def test_several_labels(read, name, content):
    examples = read(name, content, label_kind="names")
    assert examples.labels == [["x", "y"], [], ["x"]]
    assert examples.report.label_counts == {"x": 2, "y": 1}


def test_numbers(read):
    assert read("a.csv", "text,label\na,1\nb,-.5\n", label_kind="number").labels == [1.0, -0.5]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "a.csv is empty"),
        ("a.jsonl", " \n", "a.jsonl is empty"),
        ("a.csv", "text,label\n", "a.csv has no rows"),
        ("a.csv", "text,label\na,x\nb\n", r"a.csv:3: expected 2 fields \(text, label\), got 1"),
        ("a.csv", "text,label\na,x\nb,c,y\n", r"a.csv:3: .* got 3: \['b', 'c', 'y'\]"),
        ("a.csv", 'text,label\n"a,x\nb,y\n', "a.csv:2: .*quote"),
        ("a.csv", "text,label\na,\n", "a.csv:2: a label must be"),
        ("a.csv", "txt,label\na,x\n", "no column 'text'; there are 'txt', 'label'"),
        ("a.csv", b"text,label\na,x\n\xff,y\n", "a.csv:3: not UTF-8.*0xff"),
        ("a.csv", "text,label\na,x\n".encode("utf-16"), "a.csv:1: not UTF-8.*0xff"),
        ("a.jsonl", '{"text": "a"}\n', "a.jsonl:1: no column 'label'"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text"\n', "a.jsonl:2: not JSON"),
        ("a.jsonl", '["a"]\n', "a.jsonl:1: expected a JSON object"),
        ("a.jsonl", '{"text": 5, "label": 1}\n', "a.jsonl:1: a text must be a string, got 5"),
        ("a.jsonl", '{"text": "\\ud83d", "label": 1}\n', "a.jsonl:1: half of a character"),
        ("a.jsonl", '{"text": "a", "label": ["x"]}\n', "a.jsonl:1: a label must be"),
        ("a.txt", "a\n", "must end in .csv, .tsv, .jsonl or .parquet"),
    ],
)
def test_errors_name_file_and_line(read, name, content, message):
    with pytest.raises(ValueError, match=message):
        read(name, content)


def test_unknown_labels_and_no_numbers_name_their_line(read):
    with pytest.raises(ValueError, match=r"a\.csv:3: label 'z' is none of x, y"):
        read("a.csv", "text,label\na,x\nb,z\n", labels=["x", "y"])
    for number in ("z", "nan"):
        with pytest.raises(ValueError, match=rf"a\.csv:3: '{number}' is no number"):
            read("a.csv", f"text,label\na,1\nb,{number}\n", label_kind="number")


MESSY = b"""text,label
good,x
"two
lines",y
\xff\xfe bad bytes,x
short
no label,
odd,z
"a quote" inside,x
last,y
"""
BAD_LINES = [5, 6, 7, 8, 9]


def test_bad_rows_are_left_out_and_listed_or_stop_it(read):
    options = {"labels": ("x", "y")}
    examples = read("a.csv", MESSY, bad_rows="skip", **options)
    assert examples.texts == ["good", "two\nlines", "last"]
    assert examples.lines == [2, 3, 10]
    assert [problem.line for problem in examples.report.problems["bad"]] == BAD_LINES
    with pytest.raises(BadRows, match=r"a.csv:5: not UTF-8.*and 4 more bad rows") as caught:
        read("a.csv", MESSY, **options)
    assert len(caught.value.report.lines("bad")) == 5
    assert caught.value.report.lines("bad", 2)[2:] == ["… and 3 more"]
    with pytest.raises(ValueError, match="bad_rows must be one of"):
        read("a.csv", MESSY, bad_rows="ignore")


def test_a_table_without_a_good_row_is_an_error(read):
    with pytest.raises(BadRows, match=r"a\.csv:2: a label must be"):
        read("a.csv", "text,label\na,\nb,\n", bad_rows="skip")


def test_texts_that_are_empty_or_stand_there_twice_are_doubtful(read):
    examples = read("a.csv", "text,label\na,x\nb,y\na,x\n,x\na,y\n")
    assert len(examples) == 5
    assert doubts(examples) == [
        (4, "the same text and label as in line 2"),
        (5, "the text is empty"),
        (6, "the text of line 2, labelled 'y' here, but 'x' there"),
    ]
    several = read("a.csv", "text,label\na,x|y\na,x\n", label_kind="names")
    assert doubts(several)[0][1].startswith("the text of line 2, labelled ('x',) here")


def test_a_split_keeps_each_text_on_its_side(read):
    rows = [f"text {i},{'xy'[i % 2]}\n" for i in range(400)]
    train, held_out = read("a.csv", "text,label\n" + "".join(rows[:300])).split(0.2, seed=3)
    assert len(train) + len(held_out) == 300
    assert 40 < len(held_out) < 80
    assert [*train.texts, *held_out.texts] != [f"text {i}" for i in range(300)]
    later_train, later = read("a.csv", "text,label\n" + "".join(rows[::-1])).split(0.2, seed=3)
    assert set(held_out.texts) < set(later.texts) and set(train.texts) < set(later_train.texts)
    labels = dict(zip(later.texts, later.labels, strict=True))
    assert all(labels[f"text {i}"] == "xy"[i % 2] for i in range(400) if f"text {i}" in labels)
    wider, other = (read("a.csv", "text,label\n" + "".join(rows)) for _ in range(2))
    assert set(later.texts) < set(wider.split(0.5, seed=3)[1].texts)
    assert set(later.texts) != set(other.split(0.2, seed=4)[1].texts)


def test_a_split_that_leaves_a_side_empty_is_an_error(read):
    examples = read("a.csv", "text,label\na,x\n")
    with pytest.raises(ValueError, match="of 1 rows a share of 0.5 leaves one side empty"):
        examples.split(0.5)
    with pytest.raises(ValueError, match="must be between 0 and 1, got 1.5"):
        examples.split(1.5)


@pytest.mark.parametrize(
    ("name", "text", "label", "num_rows", "num_labels"),
    [
        ("sst2/dev.tsv", "text", "label", 872, 2),
        ("banking77/train.csv", "text", "category", 10003, 77),
        ("waimai/dev.csv", "review", "label", 1500, 2),
    ],
)
def test_real_tables(data_path, name, text, label, num_rows, num_labels):
    examples = read_table(data_path(name), text, label_column=label)
    assert (len(examples), len(examples.report.labels)) == (num_rows, num_labels)


# Columns

ROWS = {
    "text": ["good 好", "bad", None, "fine"],
    "label": [1, 0, 1, -1],
    "score": [0.5, 2.0, 1.0, 0.0],
    "tags": [[0, 1], [], [1], [1]],
}


def features():
    """`dataset_info.json` of `datasets`."""
    names = {"names": ["neg", "pos"], "_type": "ClassLabel"}
    columns = {"text": {"dtype": "string", "_type": "Value"}, "label": names}
    columns["score"] = {"dtype": "float64", "_type": "Value"}
    columns["tags"] = {"feature": names, "_type": "List"}
    return json.dumps({"features": columns})


@pytest.fixture
def saved(tmp_path):
    """A directory as `datasets.Dataset.save_to_disk` writes it, of two files."""
    arrow = pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
    files = [f"data-{i:05}-of-00002.arrow" for i in range(2)]
    for file, rows in zip(files, (slice(0, 2), slice(2, 4)), strict=True):
        batch = arrow.table({name: values[rows] for name, values in ROWS.items()})
        with arrow.ipc.new_stream(tmp_path / file, batch.schema) as stream:
            stream.write(batch)
    (tmp_path / "dataset_info.json").write_text(features())
    state = {"_data_files": [{"filename": file} for file in files], "_indices_data_files": None}
    (tmp_path / "state.json").write_text(json.dumps(state))
    return tmp_path


@pytest.fixture
def parquet(tmp_path):
    """A directory of two Parquet files."""
    arrow = pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
    import pyarrow.parquet

    for name, rows in (("a", slice(0, 2)), ("b", slice(2, 4))):
        table = arrow.table({name: values[rows] for name, values in ROWS.items()})
        pyarrow.parquet.write_table(table, tmp_path / f"{name}.parquet")
    return tmp_path


def test_parquet_files(parquet):
    examples = read_table(parquet / "a.parquet", label_column="label")
    assert (examples.texts, examples.labels) == (["good 好", "bad"], ["1", "0"])
    numbers = read_table(parquet / "a.parquet", label_column="score", label_kind="number")
    assert numbers.labels == [0.5, 2.0]
    both = read_table(parquet, label_column="tags", label_kind="names", bad_rows="skip")
    assert both.labels == [["0", "1"], [], ["1"]]
    with pytest.raises(BadRows, match=r":3: a text must be a string, got None"):
        read_table(parquet)
    with pytest.raises(ValueError, match="no column 'review'; there are 'text', 'label', 'score'"):
        read_table(parquet / "a.parquet", "review")


def test_a_saved_data_set_has_names_of_labels(saved):
    examples = read_table(saved, label_column="label", bad_rows="skip")
    assert (examples.texts, examples.labels) == (["good 好", "bad"], ["pos", "neg"])
    assert [line.split(":", 1)[1] for line in examples.report.lines("bad")] == [
        "3: a text must be a string, got None",
        "4: a label must be a name or a number, got None",
    ]
    several = read_table(saved, label_column="tags", label_kind="names", bad_rows="skip")
    assert several.labels == [["neg", "pos"], [], ["pos"]]


def test_directories_that_are_no_data_set_say_what_to_take(saved, tmp_path):
    (tmp_path / "all").mkdir()
    with pytest.raises(ValueError, match=r"must end in \.csv.*or be that of a directory"):
        read_table(tmp_path / "all")
    (tmp_path / "all/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(ValueError, match=r"several splits: take \S*all/train or \S*all/test"):
        read_table(tmp_path / "all")
    state = json.loads((saved / "state.json").read_text())
    (saved / "state.json").write_text(json.dumps(state | {"_indices_data_files": [{}]}))
    with pytest.raises(ValueError, match="flatten_indices"):
        read_table(saved)


def test_without_pyarrow_it_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(ImportError, match=r"pip install 'lingxi\[parquet\]'"):
        read_table(tmp_path / "a.parquet")


def test_a_file_that_is_not_there():
    with pytest.raises(FileNotFoundError):
        read_table(pathlib.Path("~/no such file.csv"))
