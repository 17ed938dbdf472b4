"""A student learns from a teacher by the formulas of the papers, and stays an ordinary task."""

import keras
import numpy as np
import pytest

from lingxi.tasks import (
    MaskedLanguageModel,
    MultiTask,
    TextClassifier,
    TextEmbedder,
    TextRegressor,
    TokenClassifier,
)
from lingxi.text import WordPieceTokenizer
from lingxi.training import AdamW, Distiller
from lingxi.zoo import Bert, BertConfig
from tests.tasks.questions import tiny_answerer, toy_questions

TEXTS = ["a good film", "bad", "the story was long and very cold", "lovely music"]
LABELS = ["positive", "negative", "negative", "positive"]
NOTHING = {"labels": 0.0, "logits": 0.0}
STUDENT = {"hidden_dim": 16, "num_layers": 2}
TEACHER = {"hidden_dim": 32, "num_layers": 4, "pooler": False}


@pytest.fixture
def pair(tiny_classifier):
    """A function: a student and a larger teacher."""

    def make(student=(), **kwargs):
        teacher = tiny_classifier(config=TEACHER, **kwargs)
        return tiny_classifier(config=STUDENT | dict(student), **kwargs), teacher

    return make


def distilled_loss(distiller, y, sample_weight=None):
    """The loss of a training step on `TEXTS`, whose longest has 9 tokens, and its inputs."""
    student = distiller.student
    x = student.tokenizer(TEXTS, max_length=32)
    with distiller._teaching():
        said = student(x, training=True)
        loss = student.compute_loss(x, y, said, sample_weight, training=True)
    return float(loss), x


def log_softmax(z):
    z = np.asarray(z, "float64")
    return (
        z
        - z.max(-1, keepdims=True)
        - np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1))[..., None]
    )


def divergence(teacher, student):
    return (np.exp(teacher) * (teacher - student)).sum(-1)


def mean_of_tokens(values, x):
    mask = np.array(x["padding_mask"], "float64")
    return (values * mask).sum() / mask.sum()


def last_block(task, x):
    """Queries, keys and values of the last block, `[batch, heads, seq, head_dim]`."""
    states = task.backbone(x, return_hidden_states=True)["hidden_states"]
    attention = task.backbone.blocks[-1].attention
    fused = np.array(attention.query_key_value_dense(states[-2]))
    fused = fused.reshape(*fused.shape[:2], 3, attention.num_heads, attention.head_dim)
    return fused.transpose(2, 0, 3, 1, 4)


def relations(a, b, x):
    scores = a @ b.swapaxes(-1, -2) / np.sqrt(a.shape[-1])
    keys = np.array(x["padding_mask"])[:, None, None, :]
    return log_softmax(np.where(keys, scores, -1e9))


Y = np.array([1, 0, 0, 1], "int32")


def test_labels_are_the_students_own_loss(pair):
    distiller = Distiller(*pair(), labels=0.3, logits=0.0)
    distiller.compile()
    loss, x = distilled_loss(distiller, Y)
    own = distiller.student.compute_loss(x, Y, distiller.student(x))
    assert loss == pytest.approx(0.3 * float(own), rel=1e-5)


def test_logits_are_compared_at_a_temperature(pair):
    distiller = Distiller(*pair(), labels=0.0, logits=0.7, temperature=3.0)
    distiller.compile()
    weights = np.array([1.0, 2.0, 0.0, 1.0], "float32")
    loss, x = distilled_loss(distiller, Y, weights)
    said, wanted = (log_softmax(np.array(m(x)) / 3) for m in (distiller.student, distiller.teacher))
    expected = 9 * (divergence(wanted, said) * weights).sum() / 4
    assert loss == pytest.approx(0.7 * expected, rel=1e-4)


def test_each_of_several_labels_is_a_yes_or_a_no(pair):
    distiller = Distiller(*pair(multi_label=True), labels=0.0, logits=1.0, temperature=2.0)
    distiller.compile()
    loss, x = distilled_loss(distiller, np.array([[1, 0], [0, 0], [1, 1], [0, 1]], "float32"))
    said, wanted = (
        log_softmax(np.stack([np.array(m(x)) / 2, np.zeros((4, 2))], -1))
        for m in (distiller.student, distiller.teacher)
    )
    assert loss == pytest.approx(4 * divergence(wanted, said).mean(), rel=1e-4)


def test_hidden_states_are_projected_to_those_of_the_teacher(pair):
    distiller = Distiller(*pair(), **NOTHING, hidden=2.0)
    distiller.compile()
    assert dict(distiller.layer_map) == {0: 0, 1: 2, 2: 4}
    loss, x = distilled_loss(distiller, Y)
    states, wanted = (
        [np.array(s) for s in m.backbone(x, return_hidden_states=True)["hidden_states"]]
        for m in (distiller.student, distiller.teacher)
    )
    gaps = [
        mean_of_tokens(((states[a] @ np.array(w.kernel) - wanted[b]) ** 2).mean(-1), x)
        for w, (a, b) in zip(distiller.projections, {0: 0, 1: 2, 2: 4}.items(), strict=True)
    ]
    assert loss == pytest.approx(2 * np.mean(gaps), rel=1e-4)


def test_equal_widths_are_compared_as_they_are(pair):
    distiller = Distiller(*pair({"hidden_dim": 32}), **NOTHING, hidden=1.0, layer_map={2: 3})
    distiller.compile()
    assert list(distiller.projections) == [None]
    loss, x = distilled_loss(distiller, Y)
    mine = distiller.student.backbone(x, return_hidden_states=True)["hidden_states"][2]
    theirs = distiller.teacher.backbone(x, return_hidden_states=True)["hidden_states"][3]
    gap = (np.array(mine) - np.array(theirs)) ** 2
    assert loss == pytest.approx(mean_of_tokens(gap.mean(-1), x), rel=1e-4)


@pytest.mark.parametrize(("term", "first", "second"), [("attention", 0, 1), ("values", 2, 2)])
def test_attention_and_values_of_the_last_block_are_compared(pair, term, first, second):
    distiller = Distiller(*pair(), **NOTHING, **{term: 0.5})
    distiller.compile()
    loss, x = distilled_loss(distiller, Y)
    said, wanted = (
        relations(parts[first], parts[second], x)
        for parts in (last_block(m, x) for m in (distiller.student, distiller.teacher))
    )
    expected = mean_of_tokens(divergence(wanted, said).mean(1), x)
    assert loss == pytest.approx(0.5 * expected, rel=1e-3)


def test_a_twin_has_nothing_to_learn(tiny_classifier):
    everything = {"labels": 0.0, "logits": 1.0, "hidden": 1.0, "attention": 1.0, "values": 1.0}
    distiller = Distiller(tiny_classifier(), tiny_classifier(), **everything)
    distiller.compile()
    assert distilled_loss(distiller, Y)[0] == pytest.approx(0.0, abs=1e-5)


def test_the_student_learns_and_is_an_ordinary_task_again(pair, tmp_path):
    student, teacher = pair()
    inputs = student.tokenizer(TEXTS, max_length=32)
    wanted = np.array(teacher(inputs))
    weights, taught = len(student.weights), [np.array(w) for w in teacher.weights]
    distiller = Distiller(student, teacher, labels=0.0, logits=1.0, hidden=0.1, values=0.1)
    assert len(distiller.weights) == weights + 3  # a projection for each of 0, 1 and 2
    projections = [np.array(w.kernel) for w in distiller.projections]
    before = np.abs(np.array(student(inputs)) - wanted).max()

    distiller.compile(AdamW(0.01))
    history = distiller.fit(TEXTS, LABELS, epochs=30, seed=1, verbose=0)
    assert history.history["loss"][-1] < 0.3 * history.history["loss"][0]
    assert np.abs(np.array(student(inputs)) - wanted).max() < 0.5 * before
    for value, layer in zip(projections, distiller.projections, strict=True):
        assert not np.array_equal(layer.kernel, value)
    for value, weight in zip(taught, teacher.weights, strict=True):
        np.testing.assert_array_equal(weight, value)

    assert len(student.weights) == weights
    assert "compute_loss" not in vars(student) and student.train_function is None
    assert not any("call" in vars(layer) for layer in student._flatten_layers())
    assert not any("call" in vars(layer) for layer in teacher._flatten_layers())
    student.save_preset(tmp_path / "student")
    same = TextClassifier.from_preset(tmp_path / "student")
    np.testing.assert_allclose(np.array(same(inputs)), np.array(student(inputs)), atol=1e-5)
    found = distiller.evaluate(TEXTS, LABELS, verbose=0)
    assert found == student.evaluate(TEXTS, LABELS, verbose=0)


def new_bert(vocabulary, layers, hidden):
    keras.utils.set_random_seed(layers)
    sizes = {"num_heads": 2, "intermediate_dim": 24, "max_length": 16, "initializer_range": 0.2}
    return Bert(
        BertConfig(vocab_size=len(vocabulary), num_layers=layers, hidden_dim=hidden, **sizes)
    )


TAGGED = [["I", "met", "Ada"], ["the", "film"]], [["O", "O", "B-PER"], ["O", "O"]]
EVERYTHING = {"logits": 0.5, "hidden": 0.5, "attention": 0.5, "values": 0.5}


@pytest.mark.parametrize("kind", ["tokens", "words", "masked"])
def test_it_takes_what_the_student_takes(vocabulary, kind):
    tokenizer = WordPieceTokenizer(vocabulary, max_length=16)
    backbones = [new_bert(vocabulary, layers, hidden) for layers, hidden in ((1, 8), (2, 12))]
    if kind == "masked":
        tasks = [MaskedLanguageModel(backbone, tokenizer) for backbone in backbones]
        data = (TEXTS * 2,)
    else:
        crf = kind == "words"
        tasks = [
            TokenClassifier(b, tokenizer, ["PER"], crf=crf and b is backbones[0]) for b in backbones
        ]
        data = TAGGED
    student, teacher = tasks
    before = [np.array(w) for w in student.trainable_weights]
    taught = [np.array(w) for w in teacher.weights]
    distiller = Distiller(student, teacher, **EVERYTHING)
    distiller.compile(AdamW(1e-3), run_eagerly=True)
    history = distiller.fit(*data, validation_data=data if len(data) > 1 else None, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    moved = [
        not np.array_equal(a, b) for a, b in zip(before, student.trainable_weights, strict=True)
    ]
    assert np.mean(moved) > 0.9
    assert all(np.array_equal(a, b) for a, b in zip(taught, teacher.weights, strict=True))


def test_a_finished_training_is_there_again(pair, tmp_path):
    def train():
        distiller = Distiller(*pair(), hidden=1.0)
        distiller.compile(AdamW(1e-2), run_eagerly=True)
        distiller.fit(TEXTS, LABELS, epochs=2, seed=1, verbose=0, resume=tmp_path / "run")
        return [np.array(w) for w in distiller.weights]

    for a, b in zip(train(), train(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_cannot_be_compared_is_refused(pair, tiny_classifier, vocabulary):
    student, teacher = pair()
    other = TextClassifier(
        tiny_classifier().backbone,
        WordPieceTokenizer(vocabulary[:-1], max_length=32),
        ["negative", "positive"],
    )
    with pytest.raises(ValueError, match="same vocabulary.*teacher's tokenizer"):
        Distiller(other, teacher)
    with pytest.raises(ValueError, match="must have its labels"):
        Distiller(tiny_classifier(labels=["positive", "negative"]), teacher)
    Distiller(tiny_classifier(labels=["a", "b", "c"]), teacher, logits=0.0, values=1.0)
    with pytest.raises(ValueError, match="num_heads=2"):
        Distiller(tiny_classifier(config={"num_heads": 4}), teacher, attention=1.0)
    with pytest.raises(ValueError, match="max_length=16"):
        Distiller(student, tiny_classifier(config={"max_length": 16}))
    with pytest.raises(ValueError, match="0 to 2 of the student with 0 to 4"):
        Distiller(student, teacher, hidden=1.0, layer_map={1: 5})
    with pytest.raises(ValueError, match="one of them more"):
        Distiller(student, teacher, **NOTHING)
    with pytest.raises(ValueError, match="temperature"):
        Distiller(student, teacher, temperature=0)


def test_numbers_are_compared_by_their_squares(vocabulary):
    tokenizer = WordPieceTokenizer(vocabulary, max_length=16)
    student, teacher = (TextRegressor(new_bert(vocabulary, n, 8), tokenizer) for n in (1, 2))
    distiller = Distiller(student, teacher, labels=0.0, logits=3.0)
    distiller.compile()
    weights = np.array([1.0, 2.0, 0.0, 1.0], "float32")
    x = student.tokenizer(TEXTS, max_length=16)
    with distiller._teaching():
        loss = student.compute_loss(x, np.zeros((4, 1), "float32"), student(x), weights)
    gaps = np.square(np.array(student(x)) - np.array(teacher(x)))[:, 0] / 2
    assert float(loss) == pytest.approx(3 * (gaps * weights).sum() / 4, rel=1e-4)


def test_questions_are_learned_from_a_teacher(vocabulary):
    student, teacher = (tiny_answerer(vocabulary, max_length=24, overlap=4) for _ in range(2))
    teacher.set_weights([1.5 * weight for weight in teacher.get_weights()])
    questions, contexts, answers = toy_questions(8)
    data = list(zip(questions, contexts, strict=True)), answers
    distiller = Distiller(student, teacher, labels=0.0, logits=1.0)
    losses = distiller.fit(*data, epochs=8, learning_rate=1e-2, seed=1, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]


def test_vectors_are_no_scores_of_labels(vocabulary):
    tokenizer = WordPieceTokenizer(vocabulary, max_length=16)
    tasks = [TextEmbedder(new_bert(vocabulary, 1, 8), tokenizer) for _ in range(2)]
    distiller = Distiller(*tasks)
    distiller.compile(run_eagerly=True)
    with pytest.raises(ValueError, match="TextEmbedder are no probabilities.*logits=0"):
        distiller.fit(list(zip(TEXTS, TEXTS[::-1], strict=True)), verbose=0)


@pytest.fixture
def several(vocabulary):
    """A function: a classifier and a tagger over one encoder of so many blocks."""

    def make(layers, hidden):
        shared = new_bert(vocabulary, layers, hidden), WordPieceTokenizer(vocabulary, max_length=16)
        classifier = TextClassifier(*shared, ["negative", "positive"])
        return MultiTask({"names": TokenClassifier(*shared, ["PER"]), "sentiment": classifier})

    return make


def test_several_tasks_learn_from_several_teachers(several):
    student, teacher = several(1, 8), several(2, 12)
    weights = len(student.weights)
    distiller = Distiller(student, teacher, labels=0.0, logits=1.0, hidden=0.1, values=0.1)
    assert len(distiller.weights) == weights + 4  # of each task, for the embeddings and the block
    distiller.compile(AdamW(0.01))
    data = {"names": TAGGED, "sentiment": (TEXTS, LABELS)}
    history = distiller.fit(data, epochs=30, seed=1, verbose=0).history
    for name in data:
        assert history[f"{name}_loss"][-1] < 0.5 * history[f"{name}_loss"][0], name
    assert len(student.weights) == weights
    assert not any("call" in vars(layer) for layer in student._flatten_layers())
    assert not any("compute_loss" in vars(task) for task in student.tasks.values())


def test_a_task_without_a_teacher_learns_from_its_labels(several, monkeypatch):
    student, teacher = several(1, 8), several(2, 12)
    distiller = Distiller(student, {"sentiment": teacher["sentiment"]}, logits=1.0)
    distiller.compile(AdamW(1e-3), run_eagerly=True)
    called = []
    losses = Distiller._loss
    monkeypatch.setattr(
        Distiller, "_loss", lambda self, *args: called.append(self.student) or losses(self, *args)
    )
    data = {"names": TAGGED, "sentiment": (TEXTS, LABELS)}
    before = [np.array(w) for w in student["names"].weights]
    history = distiller.fit(data, validation_data=data, verbose=0).history
    assert called == [student["sentiment"]]
    assert np.isfinite([*history["names_loss"], *history["val_sentiment_loss"]]).all()
    pairs = zip(before, student["names"].weights, strict=True)
    assert not all(np.array_equal(a, b) for a, b in pairs)
    with pytest.raises(ValueError, match="teachers of its tasks .'names', 'sentiment'.; got"):
        Distiller(student, {"questions": teacher["sentiment"]})
    with pytest.raises(ValueError, match="learns from a MultiTask or from {name: task}"):
        Distiller(student, teacher["sentiment"])
