"""The page about a training: its numbers, its errors, and that it needs nothing else."""

import html.parser
import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest

from lingxi import report
from lingxi.report import charts
from lingxi.report.measures import Calibration, Classified, Tagged
from lingxi.report.run import Run

HOSTILE = '<script>alert("1")</script> & \ud800 <b>bold'
VOID = {"meta"}


class Page(html.parser.HTMLParser):
    """What is in a page: elements with their attributes and texts; each closes where it must."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text("utf-8")
        self.open, self.elements, self.text = [], [], ""
        self.feed(self.source)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), len(self.text)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def cells(self, style):
        """Texts of the elements of a class."""
        starts = [start for _, attributes, start in self.elements if self._has(attributes, style)]
        return [self.text[start:] for start in starts]

    @staticmethod
    def _has(attributes, style):
        return style in (attributes.get("class") or "").split()


@pytest.fixture
def run(tmp_path):
    """A function: the directory of a run, of what `RunRecord` writes."""

    def write(verb, metadata, rows, **others):
        model = {"task": "Task", "verb": verb, "architecture": "Bert", "config": {"num_layers": 6}}
        model |= {"num_parameters": 1234, "num_trainable": 1234, "precision": "float32"}
        model |= {"optimizer": "AdamW", "technique": None, "metadata": metadata}
        model |= {"versions": {"lingxi": "0.1"}, "machine": "Linux", "created": "2026-01-01T00:00"}
        steps = [{"step": s, "loss": 1 / s, "learning_rate": 1e-4 / s} for s in range(1, 9)]
        epochs = [{"epoch": e, "step": 4 * e, "loss": 1 / e, "val_f1": 0.5 * e} for e in (1, 2)]
        for row in epochs:
            row |= {"seconds": 9.0, "examples_per_second": 12.5, "learning_rate": 1e-4}
        contents = {"model": model, "facts": {"data": HOSTILE[:-8]}, "num_examples": len(rows)}
        contents |= {"seconds": 75.0, "epochs": epochs, "steps": steps, **others}
        directory = tmp_path / "a <run>"
        directory.mkdir()
        (directory / "run.json").write_text(json.dumps(contents))
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (directory / "examples.jsonl").write_text(lines)
        return directory

    return write


def classified(text, wanted, *probabilities, labels=("bad", "fine", "good")):
    """A row of a classifier's record."""
    named = dict(zip(labels, probabilities, strict=True))
    best = max(named, key=named.get)
    chosen = [label for label, p in named.items() if p >= 0.5]
    answer = {"label": best, "score": named[best], "probabilities": named, "labels": chosen}
    return {"input": text, "wanted": wanted, "answer": answer}


LABELS = {"labels": ["bad", "fine", "good"], "multi_label": False}
ROWS = [
    classified("lovely", "good", 0.1, 0.1, 0.8),
    classified(["so so", "a pair"], 1, 0.3, 0.4, 0.3),
    classified(HOSTILE, "bad", 0.01, 0.04, 0.95),
    classified("awful", "bad", 0.7, 0.2, 0.1),
]


def test_a_classifier_has_all_that_is_known_of_it(run):
    directory = run("classify", LABELS, ROWS)
    path = report.write(directory)
    assert path == directory / "report.html"
    page = Page(path)
    loss = -np.log([0.8, 0.4, 0.01, 0.7]).mean()
    tiles = f"75.0\u00a0%accuracy77.8\u00a0%macro F1{loss:.4g}loss"
    assert page.cells("tile")[0].startswith(tiles)
    counts = {
        attributes["title"]: attributes["class"].split()[0]
        for tag, attributes, _ in page.elements
        if tag == "td" and "title" in attributes
    }
    assert counts["bad taken for bad: 1 of 2"] == "right"
    assert counts["bad taken for good: 1 of 2"] == "wrong"
    assert counts["fine taken for fine: 1 of 1"] == "right"
    worst, second, *_ = page.cells("verdict")
    assert worst.startswith("wanted badsaid goodscore 0.950loss 4.605")
    assert second.startswith("wanted finesaid finescore 0.400loss 0.916so soa pair")
    for title in ("Loss", "F1", "Learning rate", "By label", "Calibration", "Model card"):
        assert re.search(rf"<h[23]>{title}</h[23]>", page.source)
    assert "1,234" in page.text
    assert "75.0 s" in page.text


def test_a_page_loads_nothing_and_runs_nothing(run):
    page = Page(report.write(run("classify", LABELS, ROWS)))
    tags = {tag for tag, _, _ in page.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "b>bold"}
    names = {name for _, attributes, _ in page.elements for name in attributes}
    assert not names & {"src", "href", "onclick", "onload", "srcset"}
    assert "url(" not in page.source and "@import" not in page.source
    assert '<script>alert("1")</script> & ? <b>bold' in page.text
    assert "a <run>" in page.text


def test_the_page_can_be_elsewhere(run, tmp_path):
    path = report.write(run("classify", LABELS, ROWS), tmp_path / "new" / "page.html")
    assert Page(path).text
    assert not (tmp_path / "a <run>" / "report.html").exists()


def test_the_numbers_are_those_of_evaluate(tiny_classifier, run):
    from lingxi.export import quality
    from lingxi.training.watching import plain

    task, labels = tiny_classifier(), ["negative", "positive", "positive", "negative"]
    texts = ["good film", "bad", "the lovely night", "warm"]
    rows = zip(texts, labels, task.classify(texts), strict=True)
    rows = [{"input": t, "wanted": w, "answer": plain(answer)} for t, w, answer in rows]
    found = Classified(Run.read(run("classify", task.export_metadata(), rows))).scores
    wanted = quality.measured(task, "classify", task.export_metadata(), texts, labels)
    assert found.pop("loss") == pytest.approx(wanted.pop("loss"), rel=1e-5)
    assert found == wanted


def test_several_labels_a_text(run):
    rows = [
        classified("a", ["bad", "good"], 0.9, 0.2, 0.6),
        classified("b", [], 0.7, 0.1, 0.2),
    ]
    directory = run("classify", {**LABELS, "multi_label": True}, rows)
    page = Page(report.write(directory))
    assert "Confusions" not in page.text
    assert page.cells("verdict")[0].startswith("wanted nonesaid badscore 0.700loss")
    measured = Classified(Run.read(directory))
    losses = -np.log([[0.9, 0.8, 0.6], [0.3, 0.9, 0.8]]).mean(-1)
    assert measured.losses == pytest.approx(losses)
    assert measured.calibration().counts.sum() == 6


def test_of_many_labels_the_most_confused_are_shown(run):
    labels = [f"label {i}" for i in range(40)]
    rows = []
    for i in range(80):
        said = 7 if i % 40 == 3 else i % 40
        scores = [0.61 if j == said else 0.01 for j in range(40)]
        rows.append(classified(f"text {i}", labels[i % 40], *scores, labels=labels))
    page = Page(report.write(run("classify", {"labels": labels, "multi_label": False}, rows)))
    (matrix,) = page.cells("confusion")
    shown = [label for label in labels if f"{label} taken for {label}" in page.source]
    assert len(shown) == 16
    assert {"label 3", "label 7"} <= set(shown)
    assert matrix.startswith("".join(shown))
    assert "label 3 → label 72100.0\u00a0%" in page.text  # 2 texts, which are all of that label


ENTITIES = [
    {
        "input": "Ada met Bob in Rome <b>",
        "wanted": [[0, 3, "PER"], [15, 19, "LOC"]],
        "answer": [
            {"label": "PER", "text": "Ada", "start": 0, "end": 3, "score": 0.9},
            {"label": "PER", "text": "Bob", "start": 8, "end": 11, "score": 0.6},
        ],
    },
    {"input": "nobody", "wanted": [], "answer": []},
]


def test_entities_that_are_missed_or_invented_are_marked(run):
    directory = run("tag", {"tags": ["O", "B-PER", "B-LOC"]}, ENTITIES)
    page = Page(report.write(directory))
    assert "<mark>Ada</mark> met " in page.source
    assert '<mark class="extra">Bob</mark> in <mark class="missed">Rome</mark> &lt;b&gt;' in (
        page.source
    )
    assert page.cells("verdict")[0].startswith(
        "missed LOC “Rome”wrongly found PER “Bob”right PER “Ada”"
    )
    assert page.cells("tile")[0].startswith("50.0\u00a0%F1 of entities")
    measured = Tagged(Run.read(directory))
    assert measured.errors().tolist() == [2, 0]
    assert measured.calibration().error == pytest.approx((0.1 + 0.6) / 2)
    assert measured.scores["labels"]["LOC"]["recall"] == 0


def test_no_entity_found_and_none_wrong(run):
    page = Page(report.write(run("tag", {"tags": ["O", "B-PER"]}, ENTITIES[1:])))
    assert "Every entity of every example is right." in page.text
    assert "Calibration" not in page.text


def test_other_tasks_have_curves_and_a_card(run):
    page = Page(report.write(run("generate", {"task": "TextGenerator"}, [])))
    assert page.cells("tile")[0].startswith("1Validation F12epochs")
    assert "Model card" in page.text
    assert page.source.count("<svg") == 3


def test_a_training_that_has_just_begun(run):
    page = Page(report.write(run("classify", LABELS, [], epochs=[], steps=[])))
    assert "<svg" not in page.source
    assert "none" in page.text


def test_what_is_no_run_is_named(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no run.json.*lingxi train --output"):
        report.write(tmp_path)
    directory = run("classify", LABELS, ROWS)
    with (directory / "examples.jsonl").open("a") as file:
        file.write('{"input": "cut o')
    with pytest.raises(ValueError, match="damaged"):
        report.write(directory)


def test_calibration_is_that_of_guo_et_al():
    generator = np.random.default_rng(0)
    confidences = generator.uniform(0.2, 1.0, 5000)
    are_right = generator.random(5000) < confidences**2
    found = Calibration.of(confidences, are_right)
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (confidences >= low) & (confidences < low + 1 / 15)
        if inside.any():
            error += inside.mean() * abs(are_right[inside].mean() - confidences[inside].mean())
    assert found.error == pytest.approx(error, abs=1e-9)
    assert found.excess == pytest.approx(np.mean(confidences - are_right))
    assert Calibration.of([1.0, 0.0], [True, False]).error == 0


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (0.31, 0.32), (-3.0, 1e6), (0.0, 5e-5), (2.0, 2.5)]
)
def test_ticks_are_round_and_enclose(low, high):
    ticks = charts.round_ticks(low, high)
    assert ticks[0] <= low and ticks[-1] >= high
    assert 3 <= len(ticks) <= 7
    steps = np.diff(ticks)
    assert steps == pytest.approx(steps[0])


def test_curves_leave_out_what_is_not_finite():
    line = charts.Line("loss", [(1, 2.0), (2, math.nan), (3, None), (4, math.inf), (5, 1.0)], "a")
    drawn = charts.lines([line], "step")
    (points,) = re.findall(r'points="(.*?)"', drawn)
    assert len(points.split()) == 2
    assert "no finite values" in charts.lines([charts.Line("loss", [(1, math.nan)], "a")], "step")


def test_one_value_can_be_drawn():
    for value in (0.0, 1.0, -2.0):
        drawn = charts.lines([charts.Line("f1", [(1, value)], "train", dotted=True)], "epoch")
        (height,) = re.findall(r'cy="(.*?)"', drawn)
        assert 0 <= float(height) <= charts.HEIGHT


def test_smoothing_keeps_constants_and_the_end_of_noise():
    assert charts.smoothed([(x, 3.0) for x in range(100)])[50] == (50, pytest.approx(3.0))
    noisy = [(x, 1.0 + (-1) ** x) for x in range(1000)]
    assert charts.smoothed(noisy)[-1][1] == pytest.approx(1.0, abs=0.05)


def test_a_report_needs_no_framework(run, tmp_path):
    code = f"""
import sys
from lingxi import report
report.write({str(run("classify", LABELS, ROWS))!r})
assert not {{"tensorflow", "keras", "matplotlib"}} & set(sys.modules), "heavy"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
