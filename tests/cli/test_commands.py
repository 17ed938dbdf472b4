"""What each command does, called in this process."""

import io
import json
import math

import pytest

from lingxi.cli import table_files

FAST = ("--epochs", "1", "--batch_size", "4", "--max_length", "16")


@pytest.fixture(scope="session")
def exports(model, tmp_path_factory):
    """Paths of a SavedModel and of a TFLite file of the classifier."""
    from lingxi import export
    from lingxi.tasks import TextClassifier

    directory = tmp_path_factory.mktemp("exports")
    classifier = TextClassifier.from_preset(str(model))
    export.saved_model(classifier, directory / "serving")
    export.tflite(classifier, directory / "model.tflite", quantize="int8")
    return directory / "serving", directory / "model.tflite"


# train


def test_train_with_validation_twice(lingxi, model, table, tmp_path):
    arguments = ("--data", table, "--validation", table, "--preset", model, "--output", "out/new")
    flags = (*FAST, "--seed", 1, "--learning_rate", "0.001")
    outcome = lingxi("train", *arguments, *flags)
    assert outcome.status == 0, outcome.err
    assert "Saved to out/new; validation accuracy" in outcome.out
    assert "lingxi predict --model out/new" in outcome.out
    config = json.loads((tmp_path / "out/new/config.json").read_text())
    assert config["id2label"] == {"0": "negative", "1": "positive"}
    assert config["lingxi"]["max_length"] == 16

    again = lingxi("train", *arguments, *FAST)
    assert again.status == 1
    assert "not empty; --overwrite replaces it" in again.err

    weights = tmp_path / "out/new/model.safetensors"
    before = weights.read_bytes()
    assert lingxi("train", *arguments, *flags, "--overwrite").status == 0
    assert weights.read_bytes() == before  # the same seed, the same weights


def test_train_pairs_with_several_labels(lingxi, model, jsonl, tmp_path):
    data = jsonl(
        {"text": "a", "second": "b", "label": ["x", "y"]},
        {"text": "c", "second": "d", "label": []},
        {"text": "e", "second": "f", "label": "z|x"},
    )
    columns = ("--data", data, "--pair_column", "second")
    fit = ("--preset", model, "--output", "new", "--multi_label", *FAST)
    outcome = lingxi("train", *columns, *fit)
    assert outcome.status == 0, outcome.err
    config = json.loads((tmp_path / "new/config.json").read_text())
    assert list(config["id2label"].values()) == ["x", "y", "z"]
    assert config["problem_type"] == "multi_label_classification"

    measured = lingxi("evaluate", "--model", "new", *columns, "--json")
    assert set(json.loads(measured.out)["labels"]) == {"x", "y", "z"}
    assert lingxi("predict", "--model", "new", *columns).out.count("\t") == 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--labels", "positive,neutral"), "label 'negative' is none of positive, neutral"),
        (("--data", "nowhere.csv"), "nowhere.csv: No such file"),
        (("--data", "."), "must end in .csv"),
        (("--text_column", "review"), "no column 'review'; there are 'text', 'label'"),
        (("--label_column", "text", "--text_column", "label", "--data", "one.csv"), "only the"),
        (("--output", "file/new"), "Not a directory"),
        (("--output", "file"), "is a file"),
        (("--output", "full", "--overwrite"), "other things than a classifier"),
        (("--preset", "nowhere"), "no preset or directory 'nowhere'"),
        (("--preset", "bert_tiny"), "vocab"),
        (("--max_length", "1000"), "max_length must be from 3 to 32"),
        (("--learning_rate", "1e30"), "Lower --learning_rate"),
    ],
)
def test_train_fails_in_one_line(lingxi, model, table, tmp_path, change, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").write_text("")
    (tmp_path / "one.csv").write_text("label,text\na,x\nb,x\n")
    before = sorted(tmp_path.rglob("*"))
    flags = ("--data", table, "--preset", model, "--output", "new", *FAST)
    outcome = lingxi("train", *flags, *change)
    assert outcome.status == 1
    assert message in outcome.err
    assert "lingxi: error: " in outcome.err.splitlines()[-1]
    assert sorted(tmp_path.rglob("*")) == before


# evaluate


def test_evaluate_equals_keras(lingxi, model, table):
    from lingxi.tasks import TextClassifier

    data = table_files.read(table, "text", label_column="label")
    classifier = TextClassifier.from_preset(str(model))
    expected = classifier.evaluate(data.texts, data.labels, return_dict=True, verbose=0)
    outcome = lingxi("evaluate", "--model", model, "--data", table, "--json")
    report = json.loads(outcome.out)
    assert report["examples"] == len(data.texts)
    assert report["accuracy"] == pytest.approx(expected["accuracy"])
    assert report["loss"] == pytest.approx(expected["loss"], rel=1e-5)

    readable = lingxi("evaluate", "--model", model, "--data", table).out
    assert f"accuracy  {report['accuracy']:.4f}" in readable
    assert "precision  recall      F1  support" in readable


def test_evaluate_exports(lingxi, model, table, exports):
    keras, *found = (
        json.loads(lingxi("evaluate", "--model", path, "--data", table, "--json").out)
        for path in (model, *exports)
    )
    for report in found:
        assert report["accuracy"] == keras["accuracy"]
        assert report["loss"] == pytest.approx(keras["loss"], abs=0.02)


def test_evaluate_names_the_line_of_an_unknown_label(lingxi, model, jsonl):
    data = jsonl({"text": "a", "label": "positive"}, {"text": "b", "label": "neutral"})
    outcome = lingxi("evaluate", "--model", model, "--data", data)
    assert "rows.jsonl:2: label 'neutral' is none of negative, positive" in outcome.err


# predict


def test_predict_arguments_from_every_kind_of_model(lingxi, model, exports):
    answers = set()
    for path in (model, *exports):
        outcome = lingxi("predict", "--model", path, "a great\n film", "--", "-5 stars")
        assert outcome.status == 0, outcome.err
        rows = [line.split("\t") for line in outcome.out.splitlines()]
        assert [row[2] for row in rows] == ["a great film", "-5 stars"]
        answers.add(tuple(row[0] for row in rows))
    assert len(answers) == 1


def test_predict_standard_input(lingxi, model, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("a film\r\n\nbad"))
    outcome = lingxi("predict", "--model", model, "-")
    assert [line.split("\t")[2] for line in outcome.out.splitlines()] == ["a film", "", "bad"]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    empty = lingxi("predict", "--model", model, "-")
    assert (empty.status, empty.out) == (0, "")


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv"])
def test_predict_a_file(lingxi, model, table, tmp_path, suffix):
    name = f"out/labelled.{suffix}"
    outcome = lingxi("predict", "--model", model, "--data", table, "--output", name)
    assert "Wrote 12 predictions" in outcome.out
    written = table_files.read(tmp_path / name, "text", label_column="label")
    assert written.texts == table_files.read(table, "text").texts
    assert set(written.labels) <= {"negative", "positive"}
    if suffix == "jsonl":
        row = json.loads((tmp_path / name).read_text().splitlines()[0])
        assert row["probabilities"][row["label"]] == pytest.approx(row["score"], abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "nowhere", "text"), "no preset or directory 'nowhere'"),
        (("--model", "{model}", "text", "--output", "a.xml"), "must end in .csv"),
        (("--model", "{table}", "text"), "not an artifact of lingxi"),
    ],
)
def test_predict_fails_in_one_line(lingxi, model, table, arguments, message):
    arguments = (argument.format(model=model, table=table) for argument in arguments)
    outcome = lingxi("predict", *arguments)
    assert outcome.status == 1
    assert message in outcome.err


# export, list, inspect


@pytest.mark.parametrize(
    ("flags", "format"),
    [
        (("--format", "saved_model", "--output", "serving"), "SavedModel float32"),
        (
            ("--format", "tflite", "--output", "a.tflite", "--quantize", "int8", "--input", "ids"),
            "TFLite int8",
        ),
        (("--format", "tflite", "--output", "a.tflite", "--batch_size", "any"), "text bytes[-1]"),
    ],
)
def test_export(lingxi, model, tmp_path, flags, format):
    outcome = lingxi("export", "--model", model, "--max_length", 16, *flags)
    assert outcome.status == 0, outcome.err
    assert format in outcome.out and "agreement" in outcome.out
    assert lingxi("predict", "--model", flags[3], "a film").out.count("\t") == 2


def test_export_fails_in_one_line(lingxi, model, tmp_path):
    outcome = lingxi("export", "--model", model, "--format", "tflite", "--output", "model.bin")
    assert (outcome.status, outcome.err.count("\n")) == (1, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_byte_level_tokenizer_through_every_command(lingxi, table, tmp_path):
    from tests.tasks.roberta import roberta_classifier

    classifier = roberta_classifier()
    classifier.save_preset(tmp_path / "start")
    train = ("--data", table, "--preset", "start", "--output", "new", *FAST)
    assert lingxi("train", *train).status == 0
    text = " ".join(lingxi("inspect", "new").out.split())
    assert f"vocabulary {classifier.tokenizer.vocab_size:,} tokens" in text

    export = ("export", "--model", "new", "--format", "tflite", "--output", "a.tflite")
    refused = lingxi(*export)
    assert (refused.status, refused.err.count("\n")) == (1, 1)
    assert 'pass input="ids"' in refused.err
    assert lingxi(*export, "--input", "ids").status == 0
    answers = [lingxi("predict", "--model", m, "a film").out for m in ("new", "a.tflite")]
    assert answers[0] == answers[1]
    assert "task TextClassifier" in " ".join(lingxi("inspect", "a.tflite").out.split())


def test_list(lingxi):
    out = " ".join(lingxi("list").out.split())
    assert "bert_base Bert 12 768 12 109,482,240 random" in out
    assert "gpt3_175b Gpt 96 12,288 96 174,604,259,328 random" in out
    assert "t5_small T5 6 + 6 512 8 60,506,624 random" in out
    assert "minilm_l6_en_uncased: " in out


def test_inspect_a_preset(lingxi, model, vocabulary):
    from lingxi.tasks import TextClassifier

    out = " ".join(lingxi("inspect", model).out.split())
    num_parameters = TextClassifier.from_preset(str(model)).count_params()
    assert f"parameters {num_parameters:,} (F32)" in out
    assert f"vocabulary {len(vocabulary):,} tokens" in out
    assert "labels negative, positive (one a text)" in out
    assert "max_length 32" in out


def test_inspect_exports(lingxi, exports):
    serving, tflite = (" ".join(lingxi("inspect", path).out.split()) for path in exports)
    assert "format SavedModel of TensorFlow" in serving
    assert "signature serving_default input text string [?]" in serving
    assert "format TensorFlow Lite" in tflite
    assert "signature serving_default input text string [1]" in tflite
    assert "custom operators FastBertNormalize" in tflite
    assert "quantization int8" in tflite
    for out in (serving, tflite):
        assert "labels negative, positive (one a text)" in out


def test_inspect_something_else(lingxi, tmp_path):
    assert "neither a trained task" in lingxi("inspect", tmp_path).err
    assert "no preset or directory 'nowhere'" in lingxi("inspect", "nowhere").err


# other tasks


def trained(lingxi, task, data, model, *flags):
    """Train, evaluate and export; what `evaluate` says of the preset and of the export."""
    files = ("--data", data, "--validation", data, "--preset", model, "--output", "trained")
    outcome = lingxi("train", "--task", task, *files, *FAST, *flags)
    assert outcome.status == 0, outcome.err
    assert "Saved to trained; validation " in outcome.out
    export = ("--format", "saved_model", "--min_agreement", "0.9", "--output", "serving")
    outcome = lingxi("export", "--model", "trained", *export)
    assert outcome.status == 0, outcome.err
    return [
        json.loads(lingxi("evaluate", "--model", path, "--data", data, "--json").out)
        for path in ("trained", "serving")
    ]


def test_entities_are_trained_evaluated_and_predicted(lingxi, model, tmp_path):
    data = tmp_path / "names.conll"
    data.write_text("the O\nold B-PLACE\nriver I-PLACE\n\ntea B-FOOD\nis O\ngood O\n" * 8)
    learning = ("--epochs", "60", "--learning_rate", "0.003", "--seed", "1")
    scores = trained(lingxi, "tag", data, model, *learning)
    assert scores[0] == scores[1]
    assert scores[0]["f1"] > 0.9
    assert set(scores[0]["labels"]) == {"FOOD", "PLACE"}

    outcome = lingxi("predict", "--model", "trained", "tea", "the old river")
    rows = [line.split("\t") for line in outcome.out.splitlines()]
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        ("FOOD", "tea", "tea"),
        ("PLACE", "old river", "the old river"),
    ]
    (tmp_path / "texts.csv").write_text("text\ntea\ntea is good\n")
    files = ("--data", "texts.csv", "--output", "found.jsonl")
    assert lingxi("predict", "--model", "serving", *files).status == 0
    found = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert [[e["label"] for e in row["entities"]] for row in found] == [["FOOD"], ["FOOD"]]


def test_numbers_are_trained_and_predicted(lingxi, model, table, tmp_path):
    data = tmp_path / "numbers.csv"
    data.write_text("text,label\n" + "good,1.0\nbad,-1\n" * 4)
    fit = ("--preset", model, "--output", "trained", *FAST)
    outcome = lingxi("train", "--task", "rate", "--data", data, *fit)
    assert outcome.status == 0, outcome.err
    assert math.isfinite(float(lingxi("predict", "--model", "trained", "good").out.split("\t")[0]))
    report = json.loads(lingxi("evaluate", "--model", "trained", "--data", data, "--json").out)
    assert set(report) == {"examples", "mae", "pearson", "spearman"}
    assert abs(report["pearson"]) == pytest.approx(abs(report["spearman"]))  # of two values
    outcome = lingxi("train", "--task", "rate", "--data", table, *fit, "--overwrite")
    assert "is no number" in outcome.err


def test_questions_are_trained_and_answered(lingxi, model, tmp_path):
    answers = [{"text": "river", "answer_start": 8}]
    paragraph = {
        "context": "the old river is good",
        "qas": [{"id": "1", "question": "what is good", "answers": answers}],
    }
    data = tmp_path / "squad.json"
    data.write_text(json.dumps({"data": [{"title": "a", "paragraphs": [paragraph] * 8}]}))
    scores = trained(lingxi, "answer", data, model)
    assert scores[0] == scores[1]
    assert set(scores[0]) == {"examples", "exact_match", "f1"}

    (tmp_path / "asked.csv").write_text("q,c\nwhat is good,the old river is good\n")
    asked = ("--data", "asked.csv", "--text_column", "q", "--pair_column", "c")
    outcome = lingxi("predict", "--model", "trained", *asked)
    assert outcome.out.rstrip().endswith("what is good\tthe old river is good")
    assert "takes questions and contexts" in lingxi("predict", "--model", "trained", "who").err


def test_a_directory_without_a_task_is_an_error(lingxi, tmp_path):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/config.json").write_text('{"architectures": ["BertModel"]}')
    outcome = lingxi("predict", "--model", "bare", "a text")
    assert "which tell no task" in outcome.err


def test_masks_are_filled(lingxi, model, tmp_path):
    from lingxi.tasks import MaskedLanguageModel

    MaskedLanguageModel.from_preset(str(model)).save_preset(tmp_path / "masked")
    outcome = lingxi("predict", "--model", "masked", "the [MASK] was good")
    assert outcome.status == 0, outcome.err
    token, score, text = outcome.out.rstrip().split("\t")
    assert token and 0.0 < float(score) < 1.0
    assert text == "the [MASK] was good"
    assert "[MASK]" in lingxi("predict", "--model", "masked", "no mask").err


def test_embedders_are_trained_and_evaluated(lingxi, model, tmp_path):
    pairs = "good,fine,1.0\nbad,river,0.0\nslow day,slow night,0.5\nold tea,rice,-0.5\n"
    (tmp_path / "pairs.csv").write_text("text,second,label\n" + pairs)
    columns = ("--data", "pairs.csv", "--pair_column", "second")
    fit = ("--task", "embed", *columns, "--preset", model, *FAST)
    scored = lingxi("train", *fit, "--label_column", "label", "--output", "scored")
    assert scored.status == 0, scored.err
    assert "training pearson" in scored.out
    paired = lingxi("train", *fit, "--validation", "pairs.csv", "--output", "paired")
    assert paired.status == 0, paired.err
    assert "validation accuracy" in paired.out
    report = json.loads(lingxi("evaluate", "--model", "scored", *columns, "--json").out)
    assert set(report) == {"examples", "pearson", "spearman"}
    assert -1.0 <= report["spearman"] <= 1.0
    start = ("--preset", model, "--output", "refused")
    for command in (("train", "--task", "embed", *start), ("evaluate", "--model", "scored")):
        assert "--pair_column" in lingxi(*command, "--data", "pairs.csv").err


def test_an_encoder_goes_on_with_its_pretraining(lingxi, model, tmp_path):
    (tmp_path / "text.txt").write_text("the old river\nis slow\n\ntea is good\n" * 4)
    files = ("--data", "text.txt", "--validation", "text.txt", "--preset", model)
    outcome = lingxi("train", "--task", "fill", *files, "--output", "filler", *FAST)
    assert outcome.status == 0, outcome.err
    assert "validation accuracy" in outcome.out
    assert lingxi("predict", "--model", "filler", "the [MASK] river").status == 0


def test_a_generator_learns_a_text(lingxi, tmp_path):
    pytest.importorskip("sentencepiece", reason="needs the extra `tokenizers`")
    import keras

    from lingxi.tasks import TextGenerator
    from lingxi.tasks.sequence_to_sequence import learn_sentence_piece
    from lingxi.text import SentencePieceTokenizer
    from lingxi.zoo import Gpt, GptConfig

    keras.utils.set_random_seed(1)
    text = "the old river is slow . tea is good . "
    tokenizer = SentencePieceTokenizer(learn_sentence_piece([text], 30), max_length=32)
    sizes = {"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "max_length": 32}
    config = GptConfig(vocab_size=tokenizer.vocab_size, **sizes)
    generator = TextGenerator(Gpt(config), tokenizer, decoding={"max_tokens": 12})
    generator.save_preset(tmp_path / "small")
    (tmp_path / "text.txt").write_text(text * 40)
    files = ("--data", "text.txt", "--validation", "text.txt", "--preset", "small")
    rate = ("--epochs", "40", "--batch_size", "2", "--learning_rate", "0.01", "--seed", "1")
    outcome = lingxi("train", "--task", "generate", *files, *rate, "--output", "poet")
    assert outcome.status == 0, outcome.err
    assert "validation perplexity" in outcome.out
    outcome = lingxi("predict", "--model", "poet", "the old")
    assert "river is sl" in outcome.out, outcome.err
    report = lingxi("report", "poet")
    assert report.status == 0, report.err


@pytest.mark.parametrize("task", ["translate", "summarize"])
def test_text_is_learned_from_text(lingxi, task, writer, pairs):
    fit = ("--task", task, "--data", pairs, "--preset", writer, "--epochs", "1")
    assert "name the column of what it shall write" in lingxi("train", *fit, "--output", "no").err
    fit = (*fit, "--pair_column", "target", "--split", "0.2", "--output", "writer")
    outcome = lingxi("train", *fit)
    assert outcome.status == 0, outcome.err
    assert "validation accuracy" in outcome.out
    assert "--format tflite" in outcome.out
    assert lingxi("predict", "--model", "writer", "the river").status == 0


def test_filled_spans_are_a_row():
    from lingxi.cli.predictions import rows
    from lingxi.tasks import FilledText

    answer = FilledText("a cat and a dog", ("cat", "dog"), -1.5)
    text = "a <extra_id_0> and a <extra_id_1>"
    (brief,) = rows("fill", [text], [answer], False)
    assert brief == {"text": text, "output": "a cat and a dog", "score": -1.5}
    (full,) = rows("fill", [text], [answer], True)
    assert full["spans"] == ("cat", "dog")
