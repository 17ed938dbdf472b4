"""Data of SQuAD's form: reading, what is wrong in it, and scores checked by hand."""

import json
from logging import Handler

import pytest
from absl import logging

from lingxi.tasks.squad import Question, aligned, are_chinese, read_questions, scores

CONTEXT = "The river is cold. The tea is warm."


def squad(context=CONTEXT, **qa):
    qa = {"id": "q1", "question": "what is warm", "answers": [answer("tea", 23)], **qa}
    return {"version": "1.1", "data": [{"paragraphs": [{"context": context, "qas": [qa]}]}]}


def answer(text, start):
    return {"text": text, "answer_start": start}


@pytest.fixture
def written(tmp_path):
    def write(contents):
        path = tmp_path / "data.json"
        if not isinstance(contents, str):
            contents = json.dumps(contents, indent=1)
        path.write_text(contents, "utf-8")
        return path

    return write


@pytest.fixture
def warnings():
    """The messages that were logged so far."""
    messages, handler = [], Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.get_absl_logger().addHandler(handler)
    yield messages
    logging.get_absl_logger().removeHandler(handler)


# Reading


def test_a_file_of_squad(written):
    (question,) = read_questions(written(squad()))
    assert (question.question, question.context) == ("what is warm", CONTEXT)
    assert question.answers == (("tea", 23),)


def test_an_impossible_question_has_no_answer(written):
    plausible = {"plausible_answers": [answer("river", 4)]}
    for qa in ({"answers": [], "is_impossible": True}, {"answers": []}):
        (question,) = read_questions(str(written(squad(**qa, **plausible))))
        assert question.answers == ()


FORMS = {
    "dicts": ([{"question": "q", "context": CONTEXT, "answers": [answer("tea", 23)]}],),
    "columns": ([{"question": "q", "context": CONTEXT, "answers": answer(["tea"], [23])}],),
    "list of pairs": ([("q", CONTEXT)], [[("tea", 23)]]),
    "pair of lists": ((["q"], [CONTEXT]), [[answer("tea", 23)]]),
    "questions": ([Question("q", CONTEXT, (("tea", 23),))],),
}


@pytest.mark.parametrize("arguments", FORMS.values(), ids=FORMS)
def test_every_form_gives_the_same_questions(arguments):
    assert read_questions(*arguments) == [Question("q", CONTEXT, (("tea", 23),))]


def test_an_empty_context_is_an_error_with_file_and_line(written):
    path = written(squad(context=" \n"))
    line = path.read_text().split("\n").index('       "id": "q1",') + 1
    with pytest.raises(ValueError, match=rf"data.json:{line}: question 'q1': .*is empty"):
        read_questions(path)


def test_a_number_may_be_the_id_of_a_question(written):
    contents = squad(context="", id=7)
    contents["data"].insert(0, squad(id=77)["data"][0])
    path = written(contents)
    line = path.read_text().split("\n").index('       "id": 7,') + 1
    with pytest.raises(ValueError, match=f"data.json:{line}: question 7: .*is empty"):
        read_questions(path)


def test_bad_questions_can_be_left_out(written, caplog):
    contents = squad(context="", id="bad")
    contents["data"].append(squad(question="good")["data"][0])
    path = written(contents)
    (question,) = read_questions(path, bad_rows="skip")
    assert question.question == "good"
    assert "question 'bad': its context is empty" in caplog.text
    assert "left out: 1" in caplog.text


def test_an_empty_context_of_pairs_is_an_error_with_its_number():
    with pytest.raises(ValueError, match="question 1: its context is empty"):
        read_questions([("a", CONTEXT), ("b", "")], [[], []])


WRONG = {
    "no json": ('{"data":\n [,]}', "data.json, line 2: this is no JSON"),
    "no data": ({"version": 1}, 'data.json: SQuAD has the key "data" here, with a list'),
    "no paragraphs": ({"data": [{"context": "a"}]}, r'data\[0\]: .*"paragraphs"'),
    "no qas": ({"data": [{"paragraphs": [{"context": "a"}]}]}, r'paragraphs\[0\]: .*"qas"'),
    "no question": (squad(question=None), "data.json:10: question 'q1': .*\"question\""),
    "an answer without its place": (squad(answers=[{"text": "tea"}]), "'q1': an answer must be"),
    "nothing": ({"data": []}, "has no rows"),
}


@pytest.mark.parametrize(("contents", "message"), WRONG.values(), ids=WRONG)
def test_a_file_of_another_form_is_an_error(written, contents, message):
    with pytest.raises(ValueError, match=message):
        read_questions(written(contents))


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.json"):
        read_questions(tmp_path / "none.json")


def test_wrong_arguments():
    with pytest.raises(ValueError, match="questions need their answers: pass y"):
        read_questions([("q", CONTEXT)])
    with pytest.raises(ValueError, match="got 1 questions, but answers to 2"):
        read_questions([("q", CONTEXT)], [[], []])
    with pytest.raises(ValueError, match="got 1 questions, but 2 contexts"):
        read_questions((["q"], ["a", "b"]), [[]])
    with pytest.raises(ValueError, match="pass pairs"):
        read_questions(["q"], [[]])
    with pytest.raises(TypeError, match=r"contexts\[0\] is None"):
        read_questions([("q", None)], [[]])
    with pytest.raises(ValueError, match=r"question 0: an answer must be \(text, start\)"):
        read_questions([("q", CONTEXT)], [["tea"]])


# Repairing


def test_misplaced_answers_are_moved_or_dropped_and_counted(warnings):
    text = "tea or tea or rice"
    questions = [
        Question("right", text, (("tea", 7),)),
        Question("moved to the nearest", text, (("tea", 6),)),
        Question("one of two dropped", text, (("water", 0), ("rice", 0))),
        Question("dropped", text, (("water", 3),)),
        Question("unanswered", text),
    ]
    kept, numbers = aligned(questions)
    assert [question.answers for question in kept] == [
        (("tea", 7),),
        (("tea", 7),),
        (("rice", 14),),
        (),
    ]
    assert numbers == [0, 1, 2, 4]
    (message,) = warnings
    assert message == (
        "of 5 answers 4 do not stand in the context where they say: 2 were moved to the nearest "
        "place that has them, 2 stand nowhere and were dropped, and with them 1 questions without "
        "another answer"
    )


def test_aligned_answers_are_kept_in_silence(warnings):
    questions = [Question("q", CONTEXT, (("tea", 23), ("The tea", 19)))]
    assert aligned(questions) == (questions, [0])
    assert not warnings


# Scores


SQUAD = {
    # prediction, answers: exact match, F1
    "case, punctuation, articles and blanks": (("The  U.S.!", ["us"]), 100, 100),
    "articles inside of words stay": (("theory", ["ory"]), 0, 0),
    "two of three words": (("the cat sat", ["cat sat down"]), 0, 80),
    "the best answer": (("cold tea", ["warm", "tea", "very cold tea"]), 0, 80),
    "a word that is there twice": (("tea tea", ["tea"]), 0, 200 / 3),
    "other words": (("tea", ["rice"]), 0, 0),
    "an order of its own": (("b c", ["c b"]), 0, 100),
    "rightly none": (("", []), 100, 100),
    "wrongly none": (("", ["tea"]), 0, 0),
    "wrongly some": (("tea", []), 0, 0),
}


@pytest.mark.parametrize(("case", "exact_match", "f1"), SQUAD.values(), ids=SQUAD)
def test_scores_of_squad(case, exact_match, f1):
    found = scores([case[0]], [case[1]])
    assert found == pytest.approx({"exact_match": exact_match, "f1": f1})


CMRC = {
    "two of four characters": (("光荣公司", ["光荣"]), 0, 200 / 3),
    "the longest run, not all common characters": (("甲乙丙", ["甲丙"]), 0, 40),
    "without punctuation": (("《光荣》，", ["光荣"]), 100, 100),
    "a foreign word is one unit": (("光荣和Ω-Force", ["光荣和ω-force"]), 100, 100),
    "half of its units": (("光荣 omega", ["光荣"]), 0, 80),
    "the best answer": (("光荣", ["公司", "光荣的"]), 0, 80),
    "nothing in common": (("甲", ["乙"]), 0, 0),
}


@pytest.mark.parametrize(("case", "exact_match", "f1"), CMRC.values(), ids=CMRC)
def test_scores_of_cmrc(case, exact_match, f1):
    found = scores([case[0]], [case[1]], chinese=True)
    assert found == pytest.approx({"exact_match": exact_match, "f1": f1})


def test_scores_are_means_in_percent():
    found = scores(["tea", "rice", "a river", ""], [["tea"], ["tea"], ["river bed"], []])
    assert found == pytest.approx({"exact_match": 50, "f1": (100 + 0 + 200 / 3 + 100) / 4})


def test_what_texts_are_chinese():
    assert are_chinese(["《战国无双3》是由光荣和ω-force开发的。"])
    assert not are_chinese(["The word 光荣 means glory."])


# Real data


@pytest.mark.parametrize(
    ("name", "count"), [("squad/train_slice.json", 4370), ("xquad/en_36_articles.json", None)]
)
def test_squad_is_read_without_repairs(data_path, warnings, name, count):
    questions = read_questions(data_path(name))
    assert count in (None, len(questions))
    assert aligned(questions)[0] == questions
    assert not warnings
    answers = [[text for text, _ in question.answers] for question in questions]
    assert scores([texts[0] for texts in answers], answers) == {"exact_match": 100, "f1": 100}


def test_cmrc_is_repaired(data_path, warnings):
    questions = read_questions(data_path("cmrc2018/train.json"))
    assert len(questions) == 2215
    kept, _ = aligned(questions)
    (message,) = warnings
    assert "of 6645 answers 157 do not stand" in message
    assert " 7 were moved" in message and " 150 stand nowhere" in message
    for question in kept:
        for text, start in question.answers:
            assert question.context[start : start + len(text)] == text
    assert are_chinese([question.context for question in questions])
