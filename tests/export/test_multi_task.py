"""Several tasks in one SavedModel: each head answers as its task, and the encoder is there once."""

import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the tokenizer's operations

from lingxi import export
from lingxi.cli import main
from lingxi.export.components import sizes
from lingxi.tasks import MultiTask, QuestionAnswerer, TextClassifier, TextRegressor, TokenClassifier
from lingxi.text import WordPieceTokenizer
from lingxi.zoo import Bert, BertConfig

TEXTS = ["a lovely film", "", "École 你好 👍 the old river", "the film is " * 30 + "awful"]
PAIRS = [("a good film", "a great film"), ("tea", "the river was cold"), ("", "fine")]
HEADS = {
    "sentiment": functools.partial(TextClassifier, labels=["schlecht 👎", "很好"]),
    "names": functools.partial(TokenClassifier, labels=["PLACE", "FOOD"], crf=True),
    "similarity": TextRegressor,
    "questions": functools.partial(QuestionAnswerer, max_length=48, overlap=8, max_question=8),
}


@pytest.fixture(scope="module")
def multi(vocabulary):
    """Untrained, but with heads wide enough to tell texts apart. Do not change it."""
    keras.utils.set_random_seed(4)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_dim=128,
        num_layers=1,
        num_heads=2,
        intermediate_dim=512,
        max_length=64,
        dropout=0.0,
        attention_dropout=0.0,
        initializer_range=0.1,
    )
    shared = Bert(config), WordPieceTokenizer(vocabulary, max_length=64)
    return MultiTask({name: make(*shared) for name, make in HEADS.items()})


@pytest.fixture(scope="module")
def exported(multi, tmp_path_factory):
    return export.saved_model(
        multi,
        tmp_path_factory.mktemp("exported"),
        pairs={"similarity": True},
        max_length={"sentiment": 32},
        examples={"similarity": PAIRS},
    )


@pytest.fixture(scope="module")
def loaded(exported):
    return export.load(exported.path.parent)


def test_every_head_is_verified(exported, multi):
    assert list(exported.heads) == list(multi.tasks)
    assert exported.agreement == 1.0
    assert exported.heads["similarity"].num_examples == len(PAIRS)
    assert exported.num_examples == sum(head.num_examples for head in exported.heads.values())
    assert exported.max_difference < 1e-4
    assert all(head.path == exported.path for head in exported.heads.values())
    assert "  names:           100.0% on 40" in str(exported)


def test_each_head_answers_as_its_task(loaded, multi):
    found = loaded["sentiment"].classify(TEXTS[:3])
    for one, other in zip(found, multi["sentiment"].classify(TEXTS[:3]), strict=True):
        assert one.label == other.label
        assert one.score == pytest.approx(other.score, abs=1e-5)
    names = [loaded["names"].tag(TEXTS), multi["names"].tag(TEXTS)]
    assert any(names[0])
    assert [[(e.start, e.end, e.label) for e in row] for row in names[0]] == [
        [(e.start, e.end, e.label) for e in row] for row in names[1]
    ]
    rates = loaded["similarity"].rate(PAIRS), multi["similarity"].rate(PAIRS)
    np.testing.assert_allclose(*rates, atol=1e-5)
    asked = ("how was it", "the old river was cold " * 20)
    answer, wanted = loaded["questions"].answer(*asked), multi["questions"].answer(*asked)
    assert (answer.start, answer.end) == (wanted.start, wanted.end)
    with pytest.raises(KeyError, match="no task 'spam' in "):
        loaded["spam"]


def test_signatures_have_the_names_of_the_heads(exported, multi):
    served = tf.saved_model.load(str(exported.path))
    ids = {f"{name}_token_ids" for name in multi.tasks}
    assert set(served.signatures) == set(exported.signatures) == {*multi.tasks, *ids}
    outputs = served.signatures["sentiment"](text=tf.constant(TEXTS[:2]))
    assert outputs["label"][0].numpy().decode() == multi["sentiment"].classify(TEXTS[:1])[0].label
    assert set(served.signatures["names"](text=tf.constant(TEXTS))) >= {"label", "start", "end"}
    assert set(exported.signatures["similarity"][0]) == {"text", "pair"}


def test_the_encoder_is_stored_once(exported, multi, tmp_path):
    def weights(path):
        return (path / "variables" / "variables.data-00000-of-00001").stat().st_size

    alone = export.saved_model(multi["sentiment"], tmp_path / "alone")
    heads = 4 * sum(
        int(np.prod(weight.shape))
        for name, task in multi.tasks.items()
        if name != "sentiment"
        for weight in task.weights
        if all(weight is not shared for shared in multi.backbone.weights)
    )
    assert weights(exported.path) == pytest.approx(weights(alone.path) + heads, rel=0.01)


def test_the_encoder_is_one_constant_in_the_graph(exported, multi, tmp_path):
    report = export.saved_model(multi, tmp_path, target="cpu")
    assert report.target == report.heads["names"].target == "cpu"
    found, wanted = sizes(report.path), sizes(exported.path)
    for component in ("embeddings", "layers"):
        assert found[component] == pytest.approx(wanted[component], rel=0.03)


@pytest.mark.slow
def test_bfloat16_is_of_all_heads(multi, tmp_path):
    names = ("sentiment", "similarity")
    two = MultiTask({name: multi[name] for name in names})
    report = export.saved_model(two, tmp_path, precision="bfloat16", min_agreement=0)
    assert report.precision == "bfloat16"
    assert all(1e-6 < head.max_difference < 0.1 for head in report.heads.values())
    assert two.backbone.compute_dtype == "float32"


def test_each_head_exports_alone(multi, tmp_path):
    with pytest.raises(ValueError, match=r"one task: pass one of \['sentiment'"):
        export.tflite(multi, tmp_path / "all.tflite")
    path = export.tflite(multi["sentiment"], tmp_path / "sentiment.tflite").path
    found = export.load(path).classify(TEXTS[:1])[0]
    assert found.label == multi["sentiment"].classify(TEXTS[:1])[0].label


def test_an_artifact_of_other_heads_is_refused(exported, multi):
    two = MultiTask({name: multi[name] for name in ("sentiment", "names")})
    with pytest.raises(export.VerificationError, match="has the tasks .* but the MultiTask"):
        export.verify(two, exported.path)
    with pytest.raises(export.VerificationError, match="task='MultiTask'"):
        export.verify(multi["sentiment"], exported.path)


def test_a_head_that_disagrees_is_named_and_nothing_is_left(multi, tmp_path):
    one = MultiTask({"similarity": multi["similarity"]})
    with pytest.raises(export.VerificationError, match="of the task 'similarity': .*110.0% are"):
        export.saved_model(one, tmp_path / "model", min_agreement=1.1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": {"spam": True}}, "settings of no task: .'spam'."),
        ({"pairs": True}, "a TokenClassifier takes single texts, not pairs"),
        ({"max_length": {"sentiment": 65}}, "to 64 .*got 65"),
    ],
)
def test_bad_settings_are_refused(multi, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export.saved_model(multi, tmp_path / "model", **options)
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_takes_a_head(multi, exported, tmp_path, monkeypatch, capsys):
    def lingxi(*arguments):
        status = main.main(["lingxi", *map(str, arguments)])
        said = capsys.readouterr()
        return status, said.out, said.err

    monkeypatch.chdir(tmp_path)
    multi.save_preset(tmp_path / "multi")
    expected = multi["names"].tag("the old river")[0]
    for path in ("multi", exported.path.parent):
        status, out, _ = lingxi("predict", "--model", path, "--head", "names", "the old river")
        assert status == 0
        assert out.split("\t")[:2] == [expected.label, expected.text]
    _, _, error = lingxi("predict", "--model", "multi", "the old river")
    assert "pass --head, one of sentiment, names, similarity, questions" in error
    _, _, error = lingxi("predict", "--model", "multi/names", "--head", "names", "the old river")
    assert "this one has one" in error
    export_it = ("export", "--model", "multi", "--format", "tflite", "--output", "s.tflite")
    assert "pass --head" in lingxi(*export_it)[2]
    assert lingxi(*export_it, "--head", "sentiment")[0] == 0
    _, out, _ = lingxi("inspect", "multi")
    assert "sentiment, names, similarity, questions" in out
    _, out, _ = lingxi("inspect", exported.path.parent)
    assert out.count("head ") == 4 and "B-PLACE" in out


def test_what_it_is_lies_beside_it(exported):
    facts = json.loads((exported.path / "assets.extra" / "lingxi.json").read_text("utf-8"))
    assert (facts["task"], facts["precision"]) == ("MultiTask", "float32")
    assert facts["tasks"]["sentiment"]["max_length"] == 32
    assert facts["tasks"]["similarity"]["pairs"] is True
