"""Questions about texts, in the form of SQuAD and its kin: reading, repairing and scoring."""

import collections
import dataclasses
import json
import numbers
import os
import pathlib
import re
import reprlib
import string

from absl import logging

from lingxi.answers.batches import split_pairs
from lingxi.data import Problem, good_rows
from lingxi.text.strings import as_strings

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_UNITS = re.compile(r"[\u4e00-\u9fa5]|[^\s\u4e00-\u9fa5]+")  # a Chinese character, or a word
_ID = re.compile(r'"id"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d+)')
_CHINESE = re.compile(r"[\u4e00-\u9fa5]")
_CMRC_MARKS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》…·、「」（）－～『』")
_KINDS = {list: "a list", str: "a string", (str, int): "a string"}
CHINESE_SHARE = 0.3  # of the characters of texts: from here on they are Chinese


@dataclasses.dataclass(frozen=True)
class Question:
    """A question about a text.

    Attributes:
        question, context: the two texts.
        answers: `(text, start)` of each answer, in characters of the context; none where the
            context does not answer it.
    """

    question: str
    context: str
    answers: tuple = ()


def read_questions(x, y=None, bad_rows="stop", report=None):
    """A list of `Question` of anything that `QuestionAnswerer.fit` accepts.

    Args:
        x: the path of a JSON file of SQuAD 1.1, SQuAD 2.0 or CMRC 2018; a list of dicts with the
            keys "question", "context" and "answers" (a list of `{"text": …, "answer_start": …}`,
            or `{"text": […], "answer_start": […]}`); a list of `(question, context)`, or a tuple
            of the two lists.
        y: of pairs their answers: for each a list of `(text, start)`, empty where there is none.
        bad_rows: of a file: "stop" raises if questions cannot be used, "skip" leaves them out.
        report: a `lingxi.data.Report` that learns of all of them; by default a warning counts
            those that are left out.

    Raises:
        FileNotFoundError: no such file.
        lingxi.data.BadRows: a ValueError that names the file and the line of the first bad one.
        TypeError, ValueError: naming the file or the question.
    """
    if isinstance(x, (str, os.PathLike)):
        path = pathlib.Path(x).expanduser()
        return good_rows(path, _rows(path), bad_rows, report)
    if not isinstance(x, tuple) and len(x) and isinstance(x[0], Question):
        return list(x)
    if not isinstance(x, tuple) and len(x) and isinstance(x[0], dict):
        return [_question(item, item, f"question {i}") for i, item in enumerate(x)]
    questions, contexts = question_and_context(x)
    if y is None:
        raise ValueError(
            "questions need their answers: pass y, a list of (text, start) for each question"
        )
    if len(y) != len(questions):
        raise ValueError(f"got {len(questions)} questions, but answers to {len(y)}")
    return [
        _checked(question, context, _answers(answers, f"question {i}"), f"question {i}")
        for i, (question, context, answers) in enumerate(zip(questions, contexts, y, strict=True))
    ]


def question_and_context(x):
    """Two lists of str of a list of `(question, context)`, or of a tuple of the two lists.

    Raises:
        TypeError, ValueError: it is none, or they are not equally many.
    """
    questions, contexts = split_pairs(x)
    if contexts is None and len(questions):
        raise ValueError("a question needs its context: pass pairs (question, context)")
    questions, contexts = (
        [text.decode() for text in as_strings(texts, name).numpy()]
        for texts, name in (
            (questions, "questions"),
            ([] if contexts is None else contexts, "contexts"),
        )
    )
    if len(questions) != len(contexts):
        raise ValueError(f"got {len(questions)} questions, but {len(contexts)} contexts")
    return questions, contexts


def _rows(path):
    """A `Question` or a `Problem` after the other."""
    raw = path.read_text("utf-8-sig")
    try:
        contents = json.loads(raw)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: this is no JSON: {error.msg}") from error
    lines = _lines_of_ids(raw)
    for i, article in enumerate(_get(contents, "data", list, path)):
        for j, paragraph in enumerate(_get(article, "paragraphs", list, f"{path}: data[{i}]")):
            place = f"{path}: data[{i}].paragraphs[{j}]"
            for qa in _get(paragraph, "qas", list, place):
                identifier = _get(qa, "id", (str, int), place)
                try:
                    yield _question(qa, paragraph, f"question {identifier!r}")
                except ValueError as error:
                    yield Problem(lines[identifier], str(error))


def _lines_of_ids(raw):
    """`{id: line}` of all ids in a JSON file."""
    lines, line, position = {}, 1, 0
    for match in _ID.finditer(raw):
        line += raw.count("\n", position, match.start())
        position = match.start()
        lines.setdefault(json.loads(match[1]), line)
    return lines


def _question(qa, paragraph, place):
    """One of the "qas" of SQuAD, about a paragraph."""
    answers = () if qa.get("is_impossible") else _answers(qa.get("answers"), place)
    texts = _get(qa, "question", str, place), _get(paragraph, "context", str, place)
    return _checked(*texts, answers, place)


def _get(mapping, key, kind, place):
    if not isinstance(mapping, dict) or not isinstance(mapping.get(key), kind):
        raise ValueError(
            f'{place}: SQuAD has the key "{key}" here, with {_KINDS[kind]}; '
            f"got {reprlib.repr(mapping)}"
        )
    return mapping[key]


def _answers(answers, place):
    """`(text, start)` of each answer that is not empty, in any form."""
    if isinstance(answers, dict):
        answers = list(zip(answers["text"], answers["answer_start"], strict=True))
    found = []
    for answer in answers or ():
        if isinstance(answer, dict):
            answer = answer.get("text"), answer.get("answer_start")
        is_answer = isinstance(answer, (tuple, list)) and len(answer) == 2
        if (
            not is_answer
            or not isinstance(answer[0], str)
            or not isinstance(answer[1], numbers.Integral)
        ):
            raise ValueError(
                f"{place}: an answer must be (text, start), or a dict with text and answer_start, "
                f"got {answer!r}"
            )
        if answer[0]:
            found.append((answer[0], int(answer[1])))
    return tuple(found)


def _checked(question, context, answers, place):
    if not context.strip():
        raise ValueError(f"{place}: its context is empty; drop the question, or give it a text")
    return Question(question, context, answers)


# Repairing


def aligned(questions):
    """`(questions, kept)` whose answers all stand where they say; `kept` has their numbers.

    An answer that stands elsewhere is moved to the nearest place where its context has it; one
    that it has nowhere is dropped, and so is a question all of whose answers are. One warning
    counts them.
    """
    repaired, kept = [], []
    total = moved = dropped = 0
    for index, question in enumerate(questions):
        answers = []
        for text, start in question.answers:
            nearest = _nearest(question.context, text, start)
            total += 1
            moved += nearest not in (None, start)
            dropped += nearest is None
            if nearest is not None:
                answers.append((text, nearest))
        if answers or not question.answers:
            repaired.append(dataclasses.replace(question, answers=tuple(answers)))
            kept.append(index)
    if moved or dropped:
        logging.warning(
            "of %d answers %d do not stand in the context where they say: %d were moved to the "
            "nearest place that has them, %d stand nowhere and were dropped, and with them %d "
            "questions without another answer",
            total,
            moved + dropped,
            moved,
            dropped,
            len(questions) - len(kept),
        )
    return repaired, kept


def _nearest(context, text, start):
    """The start nearest to `start` at which `context` has `text`, or None."""
    if start >= 0 and context.startswith(text, start):
        return start
    places = [match.start() for match in re.finditer(f"(?={re.escape(text)})", context)]
    return min(places, key=lambda place: abs(place - start), default=None)


# Scoring


def scores(predictions, answers, chinese=False):
    """Exact match and F1 in percent, each the mean over the questions of the best answer's.

    As SQuAD's script does, without case, punctuation, articles and double blanks; F1 is that of
    the words that both have. Where there is no answer, or none is left of them, as in SQuAD 2.0,
    right is what nothing is left of.

    With `chinese` as CMRC's script does, without case and its list of punctuation; units are
    Chinese characters and words between blanks, and F1 is that of the longest run of units that
    both have. (The script cuts what is not Chinese by NLTK, so that "3,5)" is two words.)

    Args:
        predictions: texts; "" for no answer.
        answers: for each a list of texts.

    Returns:
        `{"exact_match": …, "f1": …}`.
    """
    normalize, f1 = (_chinese, _f1_of_run) if chinese else (_english, _f1_of_words)
    exact = overlap = 0.0
    for prediction, texts in zip(predictions, answers, strict=True):
        units = normalize(prediction)
        wanted = [normalized for normalized in map(normalize, texts) if normalized] or [[]]
        exact += any(units == one for one in wanted)
        overlap += max(f1(units, one) for one in wanted)
    count = max(len(predictions), 1)
    return {"exact_match": 100 * exact / count, "f1": 100 * overlap / count}


def are_chinese(texts):
    """Whether the characters of texts are mostly Chinese."""
    found = sum(len(_CHINESE.findall(text)) for text in texts)
    return found > CHINESE_SHARE * sum(map(len, texts))


def _english(text):
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return _ARTICLES.sub(" ", text).split()


def _chinese(text):
    return _UNITS.findall("".join(c for c in text.lower() if c not in _CMRC_MARKS))


def _f1_of_words(found, wanted):
    common = sum((collections.Counter(found) & collections.Counter(wanted)).values())
    return _f1(common, found, wanted)


def _f1_of_run(found, wanted):
    """F1 of the longest common run, by its lengths `[wanted]` that end at each unit of `found`."""
    longest, row = 0, [0] * (len(wanted) + 1)
    for unit in found:
        row = [0] + [row[i] + 1 if unit == other else 0 for i, other in enumerate(wanted)]
        longest = max(longest, *row)
    return _f1(longest, found, wanted)


def _f1(common, found, wanted):
    """The harmonic mean of `common / found` and `common / wanted`."""
    if not found or not wanted:
        return float(found == wanted)
    return 2 * common / (len(found) + len(wanted))
