"""Answers of tasks as rows of a table or of a JSONL file."""

import dataclasses

from lingxi.data.tables import LABEL_SEPARATOR

PAIRS = {"answer": ("question", "context")}  # names of a verb's two texts, by default text and pair


def rows(verb, texts, answers, in_full):
    """A list of dicts with the same keys, one for each answer, or for each entity.

    Args:
        verb: of the task.
        texts: strings or pairs of strings.
        answers: one for each text.
        in_full: for JSONL: everything that is in the answers, in one row for each text.
    """
    names = PAIRS.get(verb, ("text", "pair"))
    found = []
    for text, answer in zip(texts, answers, strict=True):
        given = dict(zip(names, (text,) if isinstance(text, str) else text, strict=False))
        found += [{**given, **values} for values in _ROWS[verb](answer, in_full)]
    return found


def _classify(answer, in_full):
    label = LABEL_SEPARATOR.join(answer.labels) or answer.label
    row = {"label": label, "score": round(answer.score, 6)}
    return [{**row, "probabilities": answer.probabilities} if in_full else row]


def _tag(entities, in_full):
    found = [_rounded(dataclasses.asdict(entity)) for entity in entities]
    if in_full:
        return [{"entities": found}]
    return [{("entity" if k == "text" else k): v for k, v in entity.items()} for entity in found]


def _answer(answer, in_full):
    values = _rounded(dataclasses.asdict(answer))
    return [{"answer": values.pop("text"), **values}]


def _rate(score, in_full):
    return [{"score": round(score, 6)}]


def _embed(embedding, in_full):
    numbers = [round(float(number), 7) for number in embedding]
    return [{"embedding": numbers if in_full else " ".join(map(str, numbers))}]


def _text(text, in_full):
    return [{"output": text}]


def _fill(answer, in_full):
    """A text with its spans; or of masks the best filling of each, or in full all of them."""
    if not isinstance(answer, list):
        row = {"output": answer.text, "score": round(answer.score, 6)}
        return [{**row, "spans": answer.spans} if in_full else row]
    found = [[_rounded(dataclasses.asdict(filling)) for filling in mask] for mask in answer]
    if in_full:
        return [{"masks": found}]
    return [{"token": mask[0]["token"], "score": mask[0]["score"]} for mask in found]


def _rounded(values):
    return {k: round(v, 6) if isinstance(v, float) else v for k, v in values.items()}


_ROWS = {
    "answer": _answer,
    "classify": _classify,
    "embed": _embed,
    "fill": _fill,
    "generate": _text,
    "rate": _rate,
    "summarize": _text,
    "tag": _tag,
    "translate": _text,
}
