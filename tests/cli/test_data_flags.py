"""What `lingxi train` does with its data: bad rows, splits, streams, rare labels."""

import json

import pytest

FAST = ("--epochs", "1", "--batch_size", "4", "--max_length", "16")
MESSY = ["a good film,positive", "dull", "bad,negative", "bad,negative", "bad,positive", "fine,"]


@pytest.fixture
def messy(tmp_path):
    path = tmp_path / "messy.csv"
    path.write_text("\n".join(["text,label", *MESSY]) + "\n")
    return path


@pytest.fixture
def train(lingxi, model, tmp_path):
    """A function: train on a file with further flags."""

    def run(data, *flags):
        return lingxi("train", "--data", data, "--preset", model, "--output", "new", *FAST, *flags)

    return run


def test_bad_rows_stop_a_training_before_it_begins(train, messy, tmp_path):
    outcome = train(messy)
    assert outcome.status == 1
    told = outcome.err.splitlines()
    assert "messy.csv:3: expected 2 fields (text, label), got 1: ['dull']" in told[0]
    assert "messy.csv:7: a label must be a name or a number, got ''" in told[1]
    assert told[-1].startswith("lingxi: error: ") and "1 more bad rows" in told[-1]
    assert not (tmp_path / "new").exists()


def test_a_streamed_training_goes_on_without_bad_rows_and_tells_of_doubtful_ones(train, messy):
    outcome = train(messy, "--bad_rows", "skip", "--stream")
    assert outcome.status == 0, outcome.err
    assert "messy.csv: 2 bad rows, 4 good ones" in outcome.err
    assert "messy.csv:5: the same text and label as in line 4" in outcome.err
    assert "messy.csv:6: the text of line 4, labelled 'positive' here" in outcome.err
    assert "4 training examples with 2 labels: negative, positive" in outcome.err


def test_bad_lines_of_entities_and_questions_are_listed_too(train, tmp_path):
    path = tmp_path / "names.conll"
    path.write_text("the O\nold B-PLACE\n\nriver\n\ntea B-FOOD\nis\n")
    outcome = train(path, "--task", "tag")
    assert outcome.status == 1
    lines = [line.split(": expected")[0] for line in outcome.err.splitlines()]
    assert [line.rpartition("/")[2] for line in lines[:2]] == ["names.conll:4", "names.conll:7"]
    outcome = train(path, "--task", "tag", "--bad_rows", "skip")
    assert outcome.status == 0, outcome.err
    assert "names.conll: 2 bad rows, 1 good ones" in outcome.err

    paragraph = {"context": "tea is good", "qas": [{"id": 1, "question": "what", "answers": []}]}
    empty = {**paragraph, "context": " "}
    path = tmp_path / "squad.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [paragraph, empty]}]}))
    flags = ("--task", "answer", "--no_answer", "--overwrite")
    assert "question 1: its context is empty" in train(path, *flags).err
    outcome = train(path, *flags, "--bad_rows", "skip")
    assert outcome.status == 0, outcome.err
    assert "squad.json: 1 bad rows, 1 good ones" in outcome.err


def test_a_part_of_the_data_is_held_out(train, tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"text": f"good {i}", "label": "xy"[i % 2]} for i in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    outcome = train(path, "--split", "0.25", "--seed", 1, "--class_weight", "balanced")
    assert outcome.status == 0, outcome.err
    assert "validation accuracy" in outcome.out
    counts = [line for line in outcome.err.splitlines() if "training examples" in line]
    assert 20 < int(counts[0].split()[1]) < 36


def test_a_stream_of_numbers_with_a_validation_file(train, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "good film,1.5\nbad film,-1\nfilm,0\n" * 3)
    outcome = train(path, "--task", "rate", "--stream", "--validation", path)
    assert outcome.status == 0, outcome.err
    assert "validation pearson" in outcome.out


def test_a_stream_of_pairs_with_similarities_or_without(train, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,second,score\n" + "good film,fine story,0.9\nbad film,tea,-1\n" * 4)
    flags = ("--task", "embed", "--pair_column", "second", "--stream", "--validation", path)
    outcome = train(path, *flags)
    assert outcome.status == 0, outcome.err
    assert "8 training pairs\n" in outcome.err and "validation accuracy" in outcome.out
    outcome = train(path, *flags, "--label_column", "score", "--overwrite")
    assert outcome.status == 0, outcome.err
    assert "8 training pairs with similarities" in outcome.err
    assert "validation pearson" in outcome.out


@pytest.mark.parametrize("task", ["translate", "summarize"])
def test_what_to_write_is_learned_from_a_stream(lingxi, writer, pairs, tmp_path, task):
    messy = tmp_path / "messy.csv"
    messy.write_text(pairs.read_text() + "dull\n")
    flags = ("--task", task, "--data", messy, "--preset", writer, "--pair_column", "target")
    flags += ("--output", "new", "--epochs", "2", "--seed", "1", "--stream", "--split", "0.2")
    assert "expected 2 fields (text, target), got 1" in lingxi("train", *flags).err
    outcome = lingxi("train", *flags, "--bad_rows", "skip", "--resume")
    assert outcome.status == 0, outcome.err
    assert "1 bad rows, 36 good ones" in outcome.err
    count = int(outcome.err.split(" training pairs")[0].rsplit(" ", 1)[1])
    assert 20 < count < 36
    assert "validation accuracy" in outcome.out
    assert lingxi("predict", "--model", "new", "the river").status == 0


@pytest.mark.parametrize("kept", ["beside", "checkpoints"])
def test_plain_text_is_learned_from_the_disk_as_from_memory(train, kept, tmp_path, monkeypatch):
    from lingxi.tasks.token_cache import TokenCache

    path = tmp_path / "text.txt"
    path.write_text("the old river\nis slow\n\ntea is good\n" * 9)
    flags = ("--task", "fill", "--validation", path, "--seed", 1)
    flags += ("--resume",) if kept == "checkpoints" else ()
    assert train(path, *flags).status == 0
    (tmp_path / "new").rename(tmp_path / "from memory")
    before, used, arrays = set(tmp_path.iterdir()), [], TokenCache.arrays

    def watched(cache, *arguments):
        used.append(cache.directory)
        return arrays(cache, *arguments)

    monkeypatch.setattr(TokenCache, "arrays", watched)
    outcome = train(path, *flags, "--stream")
    assert outcome.status == 0, outcome.err
    first, second = used  # for training and validation
    assert first == second
    assert first.parent == (tmp_path / "new/checkpoints" if kept == "checkpoints" else tmp_path)
    assert {*tmp_path.iterdir()} == {*before, tmp_path / "new"}
    assert "checkpoints" not in {path.name for path in (tmp_path / "new").iterdir()}
    weights = [tmp_path / name / "model.safetensors" for name in ("new", "from memory")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--split", "0.1", "--validation", "{table}"), "give --validation or --split, not both"),
        (("--split", "0.1", "--task", "tag"), "--split is for --task classify, rate, embed"),
        (("--split", "2"), "must be between 0 and 1, got 2.0"),
        (("--stream", "--task", "tag"), "summarize, generate, fill, got --task tag"),
        (("--class_weight", "balanced", "--task", "rate"), "--class_weight is for --task classify"),
    ],
)
def test_flags_that_do_not_fit_are_refused(train, table, flags, message):
    outcome = train(table, *(flag.format(table=table) for flag in flags))
    assert outcome.status == 1
    assert message in outcome.err.splitlines()[-1]
