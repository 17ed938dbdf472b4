"""QuestionAnswerer: what it learns, its answers beside a search by brute force, wrong inputs."""

import json

import keras
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from lingxi.tasks import Answer, QuestionAnswerer
from lingxi.tasks.answer_reader import AnswerReader
from lingxi.tasks.squad import aligned, read_questions
from lingxi.text import WordPieceTokenizer
from lingxi.training import AdamW
from tests.tasks.questions import QUESTION, tiny_answerer, toy_questions
from tests.tasks.roberta import tiny_tokenizer

CONTEXTS = [
    "the river was cold",
    "the film was long and the story was " * 9 + "lovely!",
    "naïve 你好 👍 the Café was\u00a0warm.",
    "a",
    "tea " * 40,
]
QUESTIONS = ["how was the river", QUESTION, "", "who", "what is it " * 20]


@pytest.fixture
def make(vocabulary):
    return lambda **options: tiny_answerer(vocabulary, **options)


@pytest.fixture(scope="module")
def trained(vocabulary):
    """One that has learned the toy task. Do not change it."""
    task = tiny_answerer(vocabulary, max_length=24, no_answer=True)
    task.compile(AdamW(3e-3))
    x, y = toy(answered=0.7)
    task.fit(x, y, epochs=12, batch_size=8, seed=0, verbose=0)
    return task


def toy(**options):
    questions, contexts, answers = toy_questions(**options)
    return (questions, contexts), answers


# Learning


def test_it_learns_where_answers_stand_and_where_there_is_none(trained):
    x, y = toy(count=40, seed=1, answered=0.7)
    assert trained.evaluate(x, y, verbose=0)["exact_match"] >= 95
    x, y = toy(count=20, seed=2, answered=0.0)
    for answer in trained.answer(*x):
        assert (answer.text, answer.start, answer.end) == ("", 0, 0)
        assert answer.score == answer.no_answer_score > 0.5


def test_only_the_head_learns_from_kept_features(trained, vocabulary):
    task = QuestionAnswerer(
        trained.backbone, WordPieceTokenizer(vocabulary, max_length=32), 24, no_answer=True
    )
    before = [np.array(weight) for weight in task.backbone.weights]
    x, y = toy(answered=0.7)
    options = {"epochs": 30, "learning_rate": 0.02, "seed": 1, "verbose": 0}
    history = task.fit_head(x, y, validation_data=(x, y), **options).history
    assert history["val_accuracy"][-1] > 0.9 > history["val_accuracy"][0]
    assert task.evaluate(x, y, verbose=0)["exact_match"] > 90
    for weight, old in zip(task.backbone.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_it_finds_the_answer_in_any_window_of_a_long_text(trained):
    for before in range(0, 90, 7):
        context = "the film was " * before + "lovely" + " of the river" * (60 - before // 2)
        answer = trained.answer(QUESTION, context)
        assert (answer.text, answer.start) == ("lovely", 13 * before)


def test_without_no_answer_the_best_span_is_given_however_improbable(make, trained):
    task = make(max_length=24)
    task.set_weights(trained.get_weights())
    answer = task.answer(QUESTION, "the river of the film")
    assert answer.text and answer.score < 0.5 < answer.no_answer_score


def test_fit_reports_loss_and_accuracy_of_validation_data(make):
    task = make()
    task.compile(AdamW(3e-3), run_eagerly=True)
    x, y = toy(count=8)
    losses = task.fit(x, y, validation_data=(x, y), epochs=2, verbose=0).history
    assert set(losses) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert losses["val_loss"][-1] < losses["val_loss"][0]


@pytest.fixture
def forms(tmp_path):
    """The same questions in every form that `fit` takes."""
    (questions, contexts), answers = toy(count=8)
    dicts = [
        {
            "question": question,
            "context": context,
            "answers": [{"text": text, "answer_start": start} for text, start in spans],
        }
        for question, context, spans in zip(questions, contexts, answers, strict=True)
    ]
    paragraphs = [
        {"context": d["context"], "qas": [{"id": str(i), **d}]} for i, d in enumerate(dicts)
    ]
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    pairs = list(zip(questions, contexts, strict=True))
    return {"path": (path, None), "dicts": (dicts, None), "pairs": (pairs, answers)}


def test_every_form_of_data_trains_alike(make, forms):
    results = []
    for x, y in forms.values():
        task = make()
        task.compile(AdamW(3e-3), run_eagerly=True)
        validation = x if y is None else (x, y)
        history = task.fit(x, y, validation_data=validation, shuffle=False, verbose=0).history
        results.append([history["val_loss"], *task.evaluate(x, y, verbose=0).values()])
    for result in results[1:]:
        np.testing.assert_allclose(result[0], results[0][0], rtol=1e-5)
        assert result[1:] == results[0][1:]


def test_a_weight_is_that_of_its_question_also_where_another_is_dropped(make):
    task = make()
    task.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    x, y = toy(count=4)
    (loss,) = task.fit(x, y, sample_weight=[1, 1, 1, 1], verbose=0).history["loss"]
    x[0].insert(1, "what")
    x[1].insert(1, "the film")
    y.insert(1, [("tea", 0)])  # nowhere
    (again,) = task.fit(x, y, sample_weight=[1, 9, 1, 1, 1], verbose=0).history["loss"]
    assert again == pytest.approx(loss, rel=1e-5)
    (doubled,) = task.fit(x, y, sample_weight=[2, 0, 2, 2, 2], verbose=0).history["loss"]
    assert doubled == pytest.approx(2 * loss, rel=1e-5)


def test_the_loss_is_the_mean_of_two_cross_entropies_over_the_context_and_the_first_token(make):
    task = make()
    task.compile(run_eagerly=True)
    (batch,) = task._raw_batches(
        (["how was it", "who"], ["the tea was warm", "cold rice"]),
        [[("warm", 12)], []],
        None,
        "given",
    ).dataset()
    inputs, targets = batch
    logits = task(inputs).numpy()
    losses = []
    for row in range(2):
        allowed = np.flatnonzero(inputs["can_answer"][row])
        assert allowed[0] > 2 and len(allowed) == (4, 2)[row]
        for side in range(2):
            scores = logits[row, [0, *allowed], side]
            target = logits[row, targets[row, side], side]
            losses.append(np.log(np.exp(scores).sum()) - target)
    assert targets.numpy().tolist() == [[8, 8], [0, 0]]
    assert task.evaluate(inputs, targets, verbose=0)[0] == pytest.approx(np.mean(losses), rel=1e-5)


def test_windows_learn_answers_that_they_hold_whole(make):
    task = make(max_length=16, overlap=4)
    context = " ".join(["the"] * 10 + ["very", "lovely", "warm", "tea"] + ["of"] * 12)
    start = context.index("very")
    answer = "very lovely warm tea"
    reader = task.reader()
    cut = reader.cut(tf.constant(["how"]), tf.constant([context]))
    targets = reader.targets(cut, np.array([[start, start + len(answer)]]))
    words = [task.tokenizer.vocabulary[i] for i in range(task.tokenizer.vocab_size)]
    holding = 0
    for ids, (first, last) in zip(cut.inputs["token_ids"].numpy(), targets, strict=True):
        tokens = [words[i] for i in ids]
        if "very" in tokens and "tea" in tokens:
            holding += 1
            assert tokens[first : last + 1] == answer.split()
        else:
            assert (first, last) == (0, 0)
    assert 1 <= holding < len(targets)


@pytest.mark.parametrize(
    ("name", "vocabulary_file", "least"),
    [
        ("squad/train_slice.json", "vocab/bert_base_uncased/vocab.txt", 0.98),
        ("cmrc2018/train.json", "vocab/bert_base_chinese/vocab.txt", 0.95),
    ],
)
def test_targets_of_real_data_are_its_answers(data_path, name, vocabulary_file, least):
    tokenizer = WordPieceTokenizer(data_path(vocabulary_file), max_length=384)
    questions, _ = aligned(read_questions(data_path(name))[:400])
    reader = AnswerReader(tokenizer, 128, 32, 32, no_answer=False)
    cut = reader.cut(*([getattr(q, key) for q in questions] for key in ("question", "context")))
    answers = [question.answers[0] for question in questions]
    spans = np.array([(start, start + len(text)) for text, start in answers])
    targets, rows = reader.targets(cut, spans), cut.rows.numpy()
    held = np.flatnonzero(targets[:, 0])
    starts = cut.starts.numpy()[held, targets[held, 0]]
    ends = cut.ends.numpy()[held, targets[held, 1]]
    assert np.all(starts <= spans[rows[held], 0]) and np.all(ends >= spans[rows[held], 1])
    exact = (starts == spans[rows[held], 0]) & (ends == spans[rows[held], 1])
    assert exact.mean() >= least  # others start or end inside of a token
    fit_the_overlap = np.flatnonzero([len(text) <= reader.overlap for text, _ in answers])
    assert len(fit_the_overlap) > 300 and set(fit_the_overlap) <= set(rows[held])
    assert len(held) < len(rows)


# Answers beside a search by brute force


def searched(task, question, context):
    """Every span of every window, one after the other, as a user of the logits would do it."""
    cut = task.reader().cut(tf.constant([question]), tf.constant([context]))
    logits = task({name: v for name, v in cut.inputs.items() if name != "can_answer"}).numpy()
    starts, ends = cut.starts.numpy(), cut.ends.numpy()
    spans, nones = [], []
    for window in range(len(logits)):
        nones.append(float(logits[window, 0].sum()))
        for first in range(logits.shape[1]):
            for last in range(first, min(first + task.max_answer, logits.shape[1])):
                if ends[window, first] > starts[window, first] and ends[window, last] > 0:
                    score = float(logits[window, first, 0]) + float(logits[window, last, 1])
                    spans.append((score, int(starts[window, first]), int(ends[window, last])))
    none = min(nones)
    total = sum(np.exp(score) for score, _, _ in spans) + np.exp(none)
    best, start, end = max(spans)
    if task.no_answer and none > best:
        best, start, end = none, 0, 0
    return Answer(context[start:end], start, end, np.exp(best) / total, np.exp(none) / total)


@pytest.mark.parametrize("options", [{}, {"max_length": 16, "overlap": 4, "max_answer": 3}])
@pytest.mark.parametrize("no_answer", [False, True])
def test_answers_are_those_of_a_search_by_brute_force(make, options, no_answer):
    task = make(no_answer=no_answer, **options)
    answers = task.answer(QUESTIONS, CONTEXTS)
    for question, context, answer in zip(QUESTIONS, CONTEXTS, answers, strict=True):
        wanted = searched(task, question, context)
        assert (answer.text, answer.start, answer.end) == (wanted.text, wanted.start, wanted.end)
        assert answer.text == context[answer.start : answer.end]
        assert answer.score == pytest.approx(wanted.score, rel=1e-4)
        assert answer.no_answer_score == pytest.approx(wanted.no_answer_score, rel=1e-4)


def test_byte_level_tokens_too(make):
    tokenizer = tiny_tokenizer()
    config = {"vocab_size": tokenizer.vocab_size, "pad_id": tokenizer.pad_id}
    backbone = make(config=config).backbone
    task = QuestionAnswerer(backbone, tokenizer, max_length=20)
    for answer, context in zip(task.answer(QUESTIONS, CONTEXTS), CONTEXTS, strict=True):
        assert answer.text == context[answer.start : answer.end] != ""


def test_no_answer_is_longer_than_max_answer(make):
    task = make(max_answer=1)
    for answer in task.answer(QUESTIONS, CONTEXTS):
        assert len(answer.text.split()) <= 1


def test_a_text_of_blanks_in_a_batch_has_no_answer(make):
    answers = make().answers_to((["who", "who"], [" ", "tea"]))
    assert answers["text"].tolist()[0] == b""
    assert answers["end"].tolist()[0] == 0
    assert answers["score"][0] == 0 and answers["no_answer_score"][0] == 1


# Every kind of input


def test_one_question_one_context_or_many(make):
    task = make()
    wanted = task.answer(QUESTIONS, CONTEXTS)
    one_by_one = [task.answer(q, c) for q, c in zip(QUESTIONS, CONTEXTS, strict=True)]
    for other in (
        one_by_one,
        task.answer(np.array(QUESTIONS, object), tf.constant(CONTEXTS)),
        task.answer(QUESTIONS, CONTEXTS, batch_size=2),
    ):
        for left, right in zip(wanted, other, strict=True):
            assert (left.text, left.start, left.end) == (right.text, right.start, right.end)
            assert left.score == pytest.approx(right.score, rel=1e-4)
    same = task.answer(QUESTIONS, CONTEXTS[0])
    assert [a.text for a in same] == [task.answer(q, CONTEXTS[0]).text for q in QUESTIONS]
    assert task.answer([], []) == []


def test_predict_gives_the_logits_of_windows(make):
    task = make()
    x = (QUESTIONS, CONTEXTS)
    logits = task.predict(x, verbose=0)
    inputs = task.reader().cut(*map(tf.constant, x)).inputs
    real = inputs["padding_mask"].numpy()
    assert logits.shape == (*real.shape, 2) and len(real) > len(CONTEXTS)
    np.testing.assert_allclose(logits[real], task(inputs).numpy()[real], atol=1e-5)


def test_wrong_inputs_are_named(make):
    task = make()
    with pytest.raises(ValueError, match="context 1 is empty"):
        task.answer(["a", "b"], ["tea", " \n"])
    with pytest.raises(ValueError, match="got 2 questions, but 1 contexts"):
        task.answer(["a", "b"], ["tea"])
    with pytest.raises(TypeError, match=r"contexts\[0\] is None"):
        task.answer("a", [None])
    with pytest.raises(ValueError, match="pass y"):
        task.fit([("a", "b")])
    with pytest.raises(ValueError, match="got no questions"):
        task.fit([("a", "b")], [[("nowhere", 0)]])
    with pytest.raises(ValueError, match="got no questions"):
        task.evaluate([], [])
    with pytest.raises(TypeError, match="data sets of windows only"):
        task.fit(tf.data.Dataset.from_tensor_slices((["a"], ["b"])))
    with pytest.raises(ValueError, match="max_answer must be 1 tokens or more, got 0"):
        make(max_answer=0)
    with pytest.raises(ValueError, match="max_length must be 16 or more, got 8"):
        make(max_length=8)


# Presets


@pytest.mark.parametrize("pooler", [True, False])
def test_a_saved_preset_answers_alike(make, tmp_path, pooler):
    config = {"pooler": pooler}
    task = make(config=config, max_length=24, overlap=5, max_question=4, max_answer=3)
    task.save_preset(tmp_path / "preset")
    again = QuestionAnswerer.from_preset(tmp_path / "preset")
    assert again.export_metadata() == task.export_metadata()
    assert again.max_length == 24
    assert again.answer(QUESTIONS, CONTEXTS) == task.answer(QUESTIONS, CONTEXTS)
    other = QuestionAnswerer.from_preset(tmp_path / "preset", max_length=32, no_answer=True)
    assert other.max_length == 32 and other.no_answer and other.max_answer == 3


def test_an_unread_pooler_in_the_file_is_ignored(make, tmp_path):
    """As in files that `transformers` wrote before version 4."""
    task = make()
    task.save_preset(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    assert not any("pooler" in name for name in tensors)
    size = task.backbone.config.hidden_dim
    tensors["bert.pooler.dense.weight"] = np.zeros((size, size), "float32")
    tensors["bert.pooler.dense.bias"] = np.zeros(size, "float32")
    safetensors.numpy.save_file(tensors, path)
    again = QuestionAnswerer.from_preset(tmp_path)
    assert again.backbone.pooler is not None
    assert again.answer(QUESTIONS, CONTEXTS) == task.answer(QUESTIONS, CONTEXTS)


def test_a_saved_encoder_gets_a_new_head(make, tmp_path):
    task = make()
    task.backbone.save_preset(tmp_path)
    task.tokenizer.save(tmp_path)
    new = QuestionAnswerer.from_preset(tmp_path)
    assert new.answer(QUESTION, CONTEXTS[0]).text
    assert np.abs(new.head.get_weights()[0] - task.head.get_weights()[0]).max() > 0.01


def test_a_keras_file_answers_alike(make, tmp_path):
    task = make(no_answer=True, overlap=3)
    task.save(tmp_path / "task.keras")
    again = keras.saving.load_model(tmp_path / "task.keras")
    assert again.answer(QUESTIONS, CONTEXTS) == task.answer(QUESTIONS, CONTEXTS)
    assert again.export_metadata() == task.export_metadata()


def test_windows_are_384_tokens_by_default(minilm_dir):
    task = QuestionAnswerer.from_preset(minilm_dir, load_weights=False)
    assert task.max_length == 384
    reader = task.reader()
    assert (reader.overlap, reader.max_question) == (128, 64)
    assert not task.backbone.pooler.trainable
