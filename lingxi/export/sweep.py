"""Which number format for TFLite: size, latency and quality of each, and the best in a bound."""

import dataclasses
import pathlib
from collections.abc import Mapping

from lingxi.export import quality
from lingxi.export.artifact import load
from lingxi.export.sweep_chart import check_matplotlib, draw
from lingxi.export.tflite import check_number_format, tflite

MODES = (None, "float16", "int8", "int8_weights", "int8_static", "int4")
FLOAT32 = "float32"  # name of the mode None
COMPARED = 200  # examples to verify each file with, and to calibrate with
CHART = "sweep.png"


@dataclasses.dataclass(frozen=True)
class Trial:
    """One file of a sweep.

    Attributes:
        name: of its mode.
        quantize: as `lingxi.export.tflite` takes it.
        path: of the file; None if there is none.
        size: bytes.
        latency: median seconds for one raw text.
        quality: by the measure of the sweep.
        drop: by how much that is less than the task's.
        on_front: no other file is as good in size, latency and quality, and better in one of them.
        problem: why there is no file.
    """

    name: str
    quantize: str | dict | None
    path: pathlib.Path | None = None
    size: int = 0
    latency: float = 0.0
    quality: float = 0.0
    drop: float = 0.0
    on_front: bool = False
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What `sweep` found.

    Attributes:
        measure: of quality, such as "accuracy".
        task_quality: that of the task in Keras.
        max_drop: the bound.
        trials: one for each mode.
        chosen: the smallest trial within the bound; None if none is.
        chart: path of the picture.
    """

    measure: str
    task_quality: float
    max_drop: float
    trials: tuple
    chosen: Trial | None
    chart: pathlib.Path

    def __str__(self):
        rows = [("mode", "size", "latency", self.measure, "drop", "")]
        rows += [
            (
                trial.name,
                f"{trial.size / 1e6:.2f} MB",
                f"{trial.latency * 1e3:.1f} ms",
                f"{trial.quality:.4f}",
                f"{trial.drop:+.4f}",
                ("Pareto front" if trial.on_front else "")
                + (" <- chosen" if trial is self.chosen else ""),
            )
            for trial in self.trials
            if not trial.problem
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        lines += [f"{trial.name}: {trial.problem}" for trial in self.trials if trial.problem]
        lines.append(f"{self.measure} of the task in Keras: {self.task_quality:.4f}")
        if self.chosen is None:
            lines.append(
                f"no file loses at most {self.max_drop:g}; lingxi.training.quantization_aware helps"
            )
        else:
            lines.append(f"the smallest that loses at most {self.max_drop:g}: {self.chosen.path}")
        return "\n".join(lines)


def sweep(task, folder, examples, labels, modes=MODES, max_drop=0.01, calibration=None, **settings):
    """Export a task in several number formats, measure each file, and choose one.

    The files, `folder/int8.tflite` and so on, stay, and beside them `folder/sweep.png`, in which
    the Pareto front is marked (extra `plots`).

    Args:
        task: a trained classifier, regressor, embedder, token classifier or question answerer.
        folder: may not exist yet; files of the same names are replaced.
        examples, labels: real inputs and the right answers, as `wanted` of
            `lingxi.export.quality.measured`: for a classifier texts and label names. The measure is
            accuracy; of embedder and regressor Spearman's correlation; of the others F1.
        modes: values of `quantize` of `lingxi.export.tflite`, or `{name: value}`, where a value may
            be a mixed recipe.
        max_drop: how much less than the task's the quality of the chosen file may be.
        calibration: inputs for "int8_static"; by default the first 200 of `examples`.
        settings: more of `lingxi.export.tflite`, such as `input="ids"`, `max_length=64`.

    Returns:
        A `Sweep`, whose `str` is a table. A mode that the task has not, or whose answers are no
        numbers, is a row that says so.

    Raises:
        ValueError: a task without a measure; an unknown mode; not as many labels as examples;
            unknown labels; no mode gave a file.
        ImportError: matplotlib or ai-edge-quantizer is not installed.
    """
    if not isinstance(modes, Mapping):
        modes = {_name(mode): mode for mode in modes}
    check_matplotlib()
    for mode in modes.values():
        check_number_format(mode)
    examples, folder = list(examples), pathlib.Path(folder)
    facts, verb = task.export_metadata(), task.verb

    def quality_of(model):
        return quality.measured(model, verb, facts, examples, labels)[quality.MAIN[verb]]

    task_quality = quality_of(task)
    texts = [text for pair in examples for text in pair] if verb == "embed" else examples
    calibration = texts if calibration is None else list(calibration)
    trials = []
    for name, mode in modes.items():
        compared = calibration if mode == "int8_static" else texts
        path = folder / f"{name}.tflite"
        try:
            report = tflite(
                task, path, mode, examples=compared[:COMPARED], min_agreement=0.0, **settings
            )
        except (ValueError, RuntimeError) as error:  # that the interpreter refuses, or no numbers
            trials.append(Trial(name, mode, problem=str(error)))
            continue
        found = quality_of(load(path))
        drop = task_quality - found
        trials.append(Trial(name, mode, path, report.size, report.latency, found, drop))
    if not any(trial.path for trial in trials):
        problems = "; ".join(f"{trial.name}: {trial.problem}" for trial in trials)
        raise ValueError(f"no mode gave a file: {problems}")
    trials = with_front(trials)
    good = [trial for trial in trials if trial.path is not None and trial.drop <= max_drop]
    chosen = min(good, key=lambda trial: trial.size, default=None)
    result = Sweep(
        quality.MAIN[verb], task_quality, max_drop, tuple(trials), chosen, folder / CHART
    )
    draw(result)
    return result


def _name(mode):
    if isinstance(mode, dict):
        return "mixed"
    return FLOAT32 if mode is None else mode


def with_front(trials):
    """The trials, those on the Pareto front marked."""

    def costs(trial):
        return trial.size, trial.latency, -trial.quality

    def beats(one, other):
        pairs = [*zip(costs(one), costs(other), strict=True)]
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    made = [trial for trial in trials if trial.path is not None]
    return [
        dataclasses.replace(
            trial, on_front=trial in made and not any(beats(other, trial) for other in made)
        )
        for trial in trials
    ]
