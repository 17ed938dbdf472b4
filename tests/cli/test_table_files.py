"""CSV, TSV and JSONL: what is read, and what is said of what cannot be."""

import pytest

from lingxi.cli import table_files


@pytest.fixture
def read(tmp_path):
    """A function: read a file of that name and content."""

    def run(name, content, **columns):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return table_files.read(path, **{"text_column": "text", "label_column": "label"} | columns)

    return run


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


def test_tsv_without_a_header(read, capsys):
    examples = read("a.tsv", "good\t1\nbad\t0\n")
    assert (examples.texts, examples.labels) == (["good", "bad"], ["1", "0"])
    assert examples.lines == [1, 2]
    assert "no header" in capsys.readouterr().err


def test_tsv_with_a_header_of_other_names(read):
    with pytest.raises(ValueError, match="no column 'text'; there are 'sentence', 'label'"):
        read("a.tsv", "sentence\tlabel\ngood\t1\n")


def test_jsonl_with_numbers_and_a_line_separator_in_a_text(read):
    examples = read("a.jsonl", '{"text": "a\u2028b", "label": 1}\n\n{"label": true, "text": ""}\n')
    assert (examples.texts, examples.labels) == (["a\u2028b", ""], ["1", "true"])
    assert examples.lines == [1, 3]


def test_pairs(read):
    examples = read("a.csv", "text,second,label\na,b,x\n", pair_column="second")
    assert examples.texts == [("a", "b")]


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
    assert read(name, content, multi_label=True).labels == [["x", "y"], [], ["x"]]


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
        ("a.jsonl", '{"text": "a"}\n', "a.jsonl:1: no column 'label'"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text"\n', "a.jsonl:2: not JSON"),
        ("a.jsonl", '["a"]\n', "a.jsonl:1: expected a JSON object"),
        ("a.jsonl", '{"text": 5, "label": 1}\n', "a.jsonl:1: a text must be a string, got 5"),
        ("a.jsonl", '{"text": "a", "label": ["x"]}\n', "a.jsonl:1: a label must be"),
        ("a.txt", "a\n", "must end in .csv, .tsv or .jsonl"),
    ],
)
def test_errors_name_file_and_line(read, name, content, message):
    with pytest.raises(ValueError, match=message):
        read(name, content)


def test_unknown_labels_name_their_line(read):
    with pytest.raises(ValueError, match=r"a\.csv:3: label 'z' is none of x, y"):
        read("a.csv", "text,label\na,x\nb,z\n").check_labels(["x", "y"])


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


@pytest.mark.parametrize(
    ("name", "text", "label", "num_rows", "num_labels"),
    [
        ("sst2/dev.tsv", "text", "label", 872, 2),
        ("banking77/train.csv", "text", "category", 10003, 77),
        ("waimai/dev.csv", "review", "label", 1500, 2),
    ],
)
def test_real_tables(data_path, name, text, label, num_rows, num_labels):
    examples = table_files.read(data_path(name), text, label_column=label)
    assert (len(examples.texts), len(set(examples.labels))) == (num_rows, num_labels)
