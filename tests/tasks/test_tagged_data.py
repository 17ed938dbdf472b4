"""Texts with entities are read from every form, and what is wrong in them is named."""

import json

import pytest

from lingxi.data import BadRows, Report
from lingxi.tasks.tagged_data import TaggedText, read_tagged, tagged

CONLL = "John B-PER\nlives O\nin O\nNew B-LOC\nYork I-LOC\n. O\n\nHi O\n"


def write(path, text):
    path.write_text(text, "utf-8")
    return path


def test_conll_files_become_texts_with_spans(tmp_path):
    first, second = read_tagged(write(tmp_path / "a.conll", CONLL))
    assert first.text == "John lives in New York ."
    assert first.entities == ((0, 4, "PER"), (14, 22, "LOC"))
    assert [first.text[s:e] for s, e in first.words] == first.text.split()
    assert second == TaggedText("Hi", (), ((0, 2),))


def test_blank_lines_may_hold_a_tab_and_windows_ends_of_line(tmp_path):
    path = write(tmp_path / "a.conll", CONLL.replace("\n\n", "\n\t\n").replace("\n", "\r\n"))
    assert [example.text for example in read_tagged(str(path))] == [
        "John lives in New York .",
        "Hi",
    ]


def test_chinese_words_stand_without_blanks(tmp_path):
    (example,) = read_tagged(write(tmp_path / "a.conll", "王 B-PER\n明 I-PER\n在 O\nIBM B-ORG\n"))
    assert example.text == "王明在IBM"
    assert example.entities == ((0, 2, "PER"), (3, 6, "ORG"))


def test_iob2_files_have_comments_and_columns(tmp_path):
    text = "# sent_id = 1\n# text = # 1\n1\t#\tO\t-\n2\tRome\tB-LOC\t-\n\n"
    (example,) = read_tagged(write(tmp_path / "a.iob2", text))
    assert (example.text, example.entities) == ("# Rome", ((2, 6, "LOC"),))


def test_jsonl_files_have_spans(tmp_path):
    line = {"text": "In Rome 👍🏽", "entities": [{"start": 3, "end": 7, "label": "LOC"}]}
    path = write(tmp_path / "a.jsonl", json.dumps(line) + "\n\n")
    assert read_tagged(path) == [TaggedText("In Rome 👍🏽", ((3, 7, "LOC"),))]


def test_lists_of_words_and_of_texts():
    (words,) = read_tagged([["In", "Rome"]], [["O", "B-LOC"]])
    (text,) = read_tagged(["In Rome"], [[(3, 7, "LOC")]])
    assert words.entities == text.entities
    assert words.words == ((0, 2), (3, 7))
    assert text.words is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.conll", "John B-PER\nlives\n", r"a\.conll:2: expected a word and its tag"),
        ("a.conll", "\n", "has no rows"),
        ("a.jsonl", '{"text": "a"}\n', r"a\.jsonl:1: expected"),
        ("a.jsonl", "nothing\n", r"a\.jsonl:1: expected"),
        (
            "a.jsonl",
            '{"text": "ab", "entities": [{"start": 0, "end": 3, "label": "X"}]}',
            r"a.jsonl:1: the entity \(0, 3, 'X'\) lies outside",
        ),
    ],
)
def test_errors_name_file_and_line(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        read_tagged(write(tmp_path / name, content))


def test_bad_lines_can_be_left_out_with_what_they_are_in(tmp_path, caplog):
    lines = "John B-PER\nlives\n\nIn O\nRome B-LOC\n\nbad\n\nTea O\n"
    path = write(tmp_path / "a.conll", lines)
    with pytest.raises(BadRows, match=r"a\.conll:2: expected .*1 more bad rows"):
        read_tagged(path)
    examples = read_tagged(path, bad_rows="skip")
    assert [example.text for example in examples] == ["In Rome", "Tea"]
    assert "a.conll:2: expected a word and its tag" in caplog.text
    good = '{"text": "In Rome", "entities": [{"start": 3, "end": 7, "label": "LOC"}]}'
    cut = good.replace("7", "9")
    report = Report(path)
    path = write(tmp_path / "a.jsonl", "\n".join([cut, good, "{}", "[1]"]))
    (example,) = read_tagged(path, bad_rows="skip", report=report)
    assert example.entities == ((3, 7, "LOC"),)
    assert [problem.line for problem in report.problems["bad"]] == [1, 3, 4]


@pytest.mark.parametrize(
    ("text", "entities", "message"),
    [
        ("abcd", [(0, 3, "X"), (2, 4, "Y")], "overlaps"),
        ("abcd", [(2, 2, "X")], "empty"),
        ("abcd", [(-1, 2, "X")], "outside"),
        ("e\u0301a", [(0, 1, "X")], "cuts a character"),
        ("👍🏽", [(0, 1, "X")], "cuts a character"),
        ("👨‍👩‍👧 b", [(0, 2, "X")], "cuts a character"),
    ],
)
def test_entities_that_cannot_be_are_errors(text, entities, message):
    with pytest.raises(ValueError, match=message):
        tagged(text, entities, "text 0")


def test_numbers_that_do_not_fit_are_errors():
    with pytest.raises(ValueError, match="got 2 texts, but entities of 1"):
        read_tagged(["a", "b"], [[]])
    with pytest.raises(ValueError, match="sentence 0 has 2 words, but 1 tags"):
        read_tagged([["a", "b"]], [["O"]])
    with pytest.raises(ValueError, match="texts need their entities"):
        read_tagged(["a"])


def test_tags_without_a_beginning_are_repaired_and_counted(caplog):
    from absl import logging

    logging.get_absl_logger().addHandler(caplog.handler)
    (example,) = read_tagged([["in", "New", "York"]], [["O", "I-LOC", "I-LOC"]])
    logging.get_absl_logger().removeHandler(caplog.handler)
    assert example.entities == ((3, 11, "LOC"),)
    assert "1 tags go on with an entity that no tag began" in caplog.text


def test_real_files_are_read_whole(data_path):
    sizes = {"wnut17/dev.conll": 1009, "msra_ner/dev.conll": 1000, "uner_zh/dev.iob2": 500}
    for name, size in sizes.items():
        examples = read_tagged(data_path(name))
        assert len(examples) == size
        for example in examples:
            assert all(0 <= s < e <= len(example.text) for s, e, _ in example.entities)
