"""The parts of the page that show what a trained model answers."""

import itertools

import numpy as np

from lingxi.report import charts
from lingxi.report.markup import Markup, element
from lingxi.report.measures import Classified, Tagged

MAX_LABELS = 16  # in a table of confusions; of more, those with the most errors
NARROW = 6  # labels whose names fit above their columns
NUM_PAIRS = 12  # of labels that are taken for each other
MAX_ROWS = 20  # of labels that are shown at once
NUM_WORST = 20
MAX_TEXT = 600  # characters of an example


def of(run):
    """Tiles, pairs of name and value, and sections, for the answers of a run, if it has any."""
    kinds = {"classify": _classified, "tag": _tagged}
    kind = kinds.get(run.model["verb"])
    return kind(run) if kind and run.examples else ([], [])


# Classifiers


def _classified(run):
    measured = Classified(run)
    calibration = measured.calibration()
    scores = measured.scores
    tiles = [
        ("accuracy", percent(scores["accuracy"])),
        ("macro F1", percent(scores["macro_f1"])),
        ("loss", charts.number(scores["loss"])),
        ("calibration error", percent(calibration.error)),
    ]
    confidence = (
        "Every yes or no of a label counts" if measured.multi_label else "Of the label that is said"
    )
    sections = [
        *([] if measured.multi_label else [_confusions(measured)]),
        _by_class("By label", "label", scores["labels"]),
        _calibration(calibration, confidence),
        _worst_classified(run, measured),
    ]
    return tiles, sections


def _confusions(measured):
    table = measured.confusion()
    errors = table * (1 - np.eye(len(table), dtype=int))
    chosen = np.arange(len(table))
    note = "Rows are the right labels, columns what the model says."
    if len(table) > MAX_LABELS:
        worst = np.argsort(-(errors.sum(0) + errors.sum(1)), kind="stable")[:MAX_LABELS]
        chosen = np.sort(worst)
        note += f" Of {len(table)} labels, the {MAX_LABELS} with the most errors."
    parts = [_matrix(table, chosen, measured.labels)]
    if len(table) > 2:
        parts.append(_pairs(errors, table.sum(1), measured.labels))
    return _section("Confusions", note, *parts)


def _matrix(table, chosen, labels):
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    names = [element("th", labels[column], scope="col") for column in chosen]
    rows = [element("thead", element("tr", element("td"), *names))]
    for row in chosen:
        cells = [element("th", labels[row], scope="row")]
        for column in chosen:
            count, share = table[row, column], shares[row, column]
            kind = "right" if row == column else "wrong"
            title = f"{labels[row]} taken for {labels[column]}: {count} of {table[row].sum()}"
            cells.append(
                element(
                    "td",
                    f"{count:,}" if count else "",
                    class_=f"{kind} full" if share > 0.6 else kind,
                    style=f"--share: {0.12 + 0.88 * share:.2f}" if count else "--share: 0",
                    title=title,
                )
            )
        rows.append(element("tr", *cells))
    kind = "confusion upright" if len(chosen) > NARROW else "confusion"
    return element("div", element("table", *rows, class_=kind), class_="wide sheet")


def _pairs(errors, support, labels):
    """The labels that are most often taken for others."""
    places = np.argsort(-errors, axis=None, kind="stable")[:NUM_PAIRS]
    rows = []
    for right, said in zip(*np.unravel_index(places, errors.shape), strict=True):
        if count := errors[right, said]:
            cells = (f"{count:,}", percent(count / support[right]))
            name = f"{labels[right]} → {labels[said]}"
            rows.append(element("tr", element("th", name), *(element("td", c) for c in cells)))
    if not rows:
        return Markup("")
    return _table(("most often taken for another", "times", "share of its texts"), rows)


def _worst_classified(run, measured):
    items = []
    for index in np.argsort(-measured.losses, kind="stable")[:NUM_WORST]:
        row, probabilities = run.examples[index], measured.probabilities[index]
        wanted = [measured.labels[i] for i in np.flatnonzero(measured.targets[index])]
        said = [measured.labels[probabilities.argmax()]]
        if measured.multi_label:
            said = [measured.labels[i] for i in np.flatnonzero(probabilities >= 0.5)]
        verdict = [
            _fact("wanted", ", ".join(wanted) or "none"),
            _fact("said", ", ".join(said) or "none", "wrong" if said != wanted else None),
            _fact("score", f"{probabilities.max():.3f}"),
            _fact("loss", f"{measured.losses[index]:.3f}"),
        ]
        items.append(_example(verdict, *map(_text, _parts(row["input"]))))
    note = f"The {len(items)} of highest loss: what the model is most sure of, and wrong about."
    return _section("Worst examples", note, element("ol", *items, class_="examples"))


# Token classifiers


def _tagged(run):
    measured = Tagged(run)
    calibration, scores = measured.calibration(), measured.scores
    tiles = [
        ("F1 of entities", percent(scores["f1"])),
        ("precision", percent(scores["precision"])),
        ("recall", percent(scores["recall"])),
        ("calibration error", percent(calibration.error)),
    ]
    sections = [_by_class("By type of entity", "type", scores["labels"])]
    if calibration.counts.any():
        sections.append(_calibration(calibration, "Of every entity that is found"))
    sections.append(_worst_tagged(run, measured))
    return tiles, sections


def _worst_tagged(run, measured):
    errors = measured.errors()
    items = []
    for index in np.argsort(-errors, kind="stable")[:NUM_WORST]:
        if not errors[index]:
            break
        text = run.examples[index]["input"]
        wanted, found = measured.wanted[index], measured.found[index]
        verdict = [
            _fact("missed", _named(wanted - found.keys(), text), "wrong"),
            _fact("wrongly found", _named(found.keys() - wanted, text), "wrong"),
            _fact("right", _named(wanted & found.keys(), text)),
        ]
        items.append(_example(verdict, _marked(text, wanted, set(found))))
    if not items:
        return _section("Worst examples", "Every entity of every example is right.")
    note = element(
        "p",
        f"The {len(items)} with the most wrong entities: ",
        element("mark", "right"),
        ", ",
        element("mark", "missed", class_="missed"),
        ", ",
        element("mark", "wrongly found", class_="extra"),
        ".",
        class_="note",
    )
    return _section("Worst examples", note, element("ol", *items, class_="examples"))


def _named(entities, text):
    """Entities in a line, or None."""
    return ", ".join(f"{kind} “{text[a:b]}”" for a, b, kind in sorted(entities)) or None


def _marked(text, wanted, found):
    """A text with its entities: those found, missed, and found where there are none."""
    ends = {end for span in wanted | found for end in span[:2]}
    parts = []
    for start, end in itertools.pairwise(sorted({0, len(text)} | ends)):
        right, said = ({s for s in spans if s[0] <= start < s[1]} for spans in (wanted, found))
        piece = text[start:end]
        if right or said:
            kinds = ["missed"] * bool(right - said) + ["extra"] * bool(said - right)
            piece = element("mark", piece, class_=" ".join(kinds) or None)
        parts.append(piece)
    return element("p", *parts, class_="text", dir="auto")


# Both


def _by_class(title, name, rows):
    """Precision, recall and F1 of each class, the worst first."""
    lines = []
    for label, values in sorted(rows.items(), key=lambda item: item[1]["f1"]):
        ratios = (element("td", percent(values[key])) for key in ("precision", "recall"))
        bar = element("i", style=f"width: {values['f1']:.1%}")
        f1 = element("td", percent(values["f1"]), element("span", bar, class_="meter"))
        cells = (*ratios, f1, element("td", f"{values['support']:,}"))
        lines.append(element("tr", element("th", label, scope="row"), *cells))
    head = (name, "precision", "recall", "F1", "examples")
    parts = [_table(head, lines[:MAX_ROWS])]
    if more := lines[MAX_ROWS:]:
        summary = element("summary", f"the other {len(more)}")
        parts.append(element("details", summary, _table(head, more)))
    return _section(title, "The lowest F1 first.", *parts)


def _table(head, rows):
    titles = element("thead", element("tr", *(element("th", cell, scope="col") for cell in head)))
    table = element("table", titles, element("tbody", *rows), class_="classes")
    return element("div", table, class_="wide sheet")


def _calibration(calibration, what):
    excess = calibration.excess
    tendency = "too sure" if excess > 0 else "too modest"
    note = (
        f"{what}: is it right as often as it says? The expected calibration error is "
        f"{percent(calibration.error)}; in the mean the model is {tendency} by "
        f"{percent(abs(excess))}."
    )
    figure = element("figure", charts.reliability(calibration))
    text = element("p", note, class_="note")
    return _section("Calibration", element("div", figure, text, class_="charts"))


def _section(title, note, *parts):
    """A part of the page.

    Args:
        note: a text below the title, or any other part.
    """
    if not isinstance(note, Markup):
        note = element("p", note, class_="note")
    return element("section", element("h2", title), note, *parts)


def _example(verdict, *texts):
    facts = element("p", *filter(None, verdict), class_="verdict")
    return element("li", facts, *texts, class_="sheet")


def _fact(name, value, kind=None):
    if value is None:
        return None
    return element("span", f"{name} ", element("b", value), class_=kind)


def _parts(example):
    """The one or two texts of an example."""
    return [example] if isinstance(example, str) else example


def _text(text):
    text = text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"
    return element("p", text, class_="text", dir="auto")


def percent(share):
    """A share in words: 92.5 %."""
    return f"{share:.1%}".replace("%", "\u00a0%")
