"""Which TFLite file or SavedModel: size, latency and quality of each, and the best in a bound."""

import dataclasses
import pathlib
from collections.abc import Mapping

import tensorflow as tf

from lingxi.export import quality
from lingxi.export.artifact import load
from lingxi.export.saved_model import PRECISIONS, TARGETS, saved_model
from lingxi.export.sweep_chart import check_matplotlib, draw
from lingxi.export.tflite import check_number_format, tflite
from lingxi.export.verification import latencies

MODES = (None, "float16", "int8", "int8_weights", "int8_static", "int4")
FLOAT32 = "float32"  # name of the mode None
VARIANTS = {  # modes of a SavedModel
    f"{precision}-{target}" if target else precision: {"precision": precision, "target": target}
    for precision in PRECISIONS
    for target in TARGETS
}
BEST = {"tflite": ("smallest", "size"), "saved_model": ("fastest here", "latency")}
AGREEMENT = "agreement"
COMPARED = 200  # examples to verify each file with, and to calibrate with
BATCH = 8  # examples at a time, of `batch_latency`
CHART = "sweep.png"


@dataclasses.dataclass(frozen=True)
class Trial:
    """One file, or SavedModel, of a sweep.

    Attributes:
        name: of its mode.
        mode: `quantize` of `lingxi.export.tflite`, or `precision` and `target` of `saved_model`.
        path: of the file; None if there is none.
        size: bytes.
        latency: median seconds for one raw text.
        quality: by the measure of the sweep.
        drop: by how much that is less than the task's.
        on_front: no other file is as good in size, latency and quality, and better in one of them.
        problem: why there is no file.
        batch_latency: median seconds for 8 texts in one call.
        agreement: share of its answers that are the task's.
    """

    name: str
    mode: str | dict | None
    path: pathlib.Path | None = None
    size: int = 0
    latency: float = 0.0
    quality: float = 0.0
    drop: float = 0.0
    on_front: bool = False
    problem: str = ""
    batch_latency: float = 0.0
    agreement: float = 0.0


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What `sweep` found.

    Attributes:
        measure: of quality, such as "accuracy".
        task_quality: that of the task in Keras.
        max_drop: the bound.
        trials: one for each mode.
        chosen: the smallest TFLite file within the bound, or the SavedModel that answers one text
            the fastest here; None if none is within.
        chart: path of the picture.
        format: "tflite" or "saved_model".
    """

    measure: str
    task_quality: float
    max_drop: float
    trials: tuple
    chosen: Trial | None
    chart: pathlib.Path
    format: str = "tflite"

    def __str__(self):
        best, _ = BEST[self.format]
        rows = [("mode", "size", "1 text", f"{BATCH} texts", AGREEMENT, self.measure, "drop", "")]
        rows += [
            (
                trial.name,
                f"{trial.size / 1e6:.2f} MB",
                f"{trial.latency * 1e3:.1f} ms",
                f"{trial.batch_latency * 1e3:.1f} ms",
                f"{trial.agreement:.1%}",
                f"{trial.quality:.4f}",
                f"{trial.drop:+.4f}",
                ("Pareto front" if trial.on_front else "")
                + (" <- chosen" if trial is self.chosen else ""),
            )
            for trial in self.trials
            if not trial.problem
        ]
        if self.measure == AGREEMENT:
            rows = [(*row[:4], *row[5:]) for row in rows]
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
            lines.append(f"the {best} that loses at most {self.max_drop:g}: {self.chosen.path}")
            fastest = min(self.within_bound(), key=lambda trial: trial.batch_latency)
            lines.append(f"the fastest here for {BATCH} texts: {fastest.path}")
        return "\n".join(lines)

    def within_bound(self):
        """The trials that lose at most `max_drop`."""
        made = (trial for trial in self.trials if trial.path is not None)
        return [trial for trial in made if trial.drop <= self.max_drop]


def sweep(
    task,
    folder,
    examples,
    labels=None,
    modes=None,
    max_drop=0.01,
    calibration=None,
    format="tflite",
    **settings,
):
    """Export a task in several number formats, measure each file, and choose one.

    The files, `folder/int8.tflite` or `folder/bfloat16-cpu/1` and so on, stay, and beside them
    `folder/sweep.png`, in which the Pareto front is marked (extra `plots`).

    Args:
        task: a trained classifier, regressor, embedder, token classifier or question answerer;
            without labels any but a `MultiTask`.
        folder: may not exist yet; files of the same names are replaced, a SavedModel gets its next
            version.
        examples, labels: real inputs and the right answers, as `wanted` of
            `lingxi.export.quality.measured`: for a classifier texts and label names. The measure is
            accuracy; of embedder and regressor Spearman's correlation; of the others F1. Without
            labels it is the agreement with the task.
        modes: values of `quantize` of `lingxi.export.tflite`, or `{name: value}`, where a value may
            be a mixed recipe. Of SavedModels names of `VARIANTS`, such as "bfloat16-cpu"; by
            default all precisions for any machine and for the kind that this one is.
        max_drop: how much less than the task's the quality of the chosen file may be.
        calibration: inputs for "int8_static"; by default the first 200 of `examples`.
        format: "tflite", of which the smallest file is chosen, or "saved_model", of which the
            fastest for one text is. All are loaded at once and take turns to be timed.
        settings: more of `lingxi.export.tflite` or `saved_model`, such as `max_length=64`.

    Returns:
        A `Sweep`, whose `str` is a table. A mode that the task has not, or whose answers are no
        numbers, is a row that says so.

    Raises:
        ValueError: a task without a measure; an unknown mode; not as many labels as examples;
            unknown labels; no mode gave a file.
        ImportError: matplotlib or ai-edge-quantizer is not installed.
    """
    modes = _checked_modes(format, modes)
    check_matplotlib()
    examples, folder = list(examples), pathlib.Path(folder)
    facts, verb = task.export_metadata(), task.verb
    measure = AGREEMENT if labels is None else quality.MAIN.get(verb)

    def quality_of(model):
        return quality.measured(model, verb, facts, examples, labels)[measure]

    texts, task_quality = examples, 1.0
    if labels is not None:
        task_quality = quality_of(task)
        texts = [text for pair in examples for text in pair] if verb == "embed" else examples
    calibration = texts if calibration is None else list(calibration)
    trials, artifacts = [], {}
    for name, mode in modes.items():
        compared = (calibration if mode == "int8_static" else texts)[:COMPARED]
        options = {**settings, "examples": compared, "min_agreement": 0.0}
        try:
            if format == "tflite":
                report = tflite(task, folder / f"{name}.tflite", mode, **options)
            else:
                report = saved_model(task, folder / name, **mode, **options)
        except (ValueError, RuntimeError) as error:  # that the interpreter refuses, or no numbers
            trials.append(Trial(name, mode, problem=str(error)))
            continue
        artifacts[name] = load(report.path)
        found = report.agreement if labels is None else quality_of(artifacts[name])
        trial = Trial(
            name,
            mode,
            report.path,
            report.size,
            quality=found,
            drop=task_quality - found,
            agreement=report.agreement,
        )
        trials.append(trial)
    if not artifacts:
        problems = "; ".join(f"{trial.name}: {trial.problem}" for trial in trials)
        raise ValueError(f"no mode gave a file: {problems}")
    trials = tuple(with_front(_timed(trials, artifacts, texts[:COMPARED])))
    result = Sweep(measure, task_quality, max_drop, trials, None, folder / CHART, format)
    _, cost = BEST[format]
    chosen = min(result.within_bound(), key=lambda trial: getattr(trial, cost), default=None)
    result = dataclasses.replace(result, chosen=chosen)
    draw(result)
    return result


def _checked_modes(format, modes):
    """`{name: mode}`, where `modes` says what is wanted."""
    if format not in BEST:
        raise ValueError(f"format must be one of {tuple(BEST)}, got {format!r}")
    if format == "tflite":
        if not isinstance(modes, Mapping):
            modes = {_name(mode): mode for mode in (MODES if modes is None else modes)}
        for mode in modes.values():
            check_number_format(mode)
        return modes
    if modes is None:
        kinds = (None, "gpu" if tf.config.list_physical_devices("GPU") else "cpu")
        modes = [name for name, mode in VARIANTS.items() if mode["target"] in kinds]
    unknown = [mode for mode in modes if mode not in VARIANTS]
    if unknown:
        raise ValueError(f"modes of a SavedModel are {', '.join(VARIANTS)}; got {unknown}")
    return {name: VARIANTS[name] for name in modes}


def _name(mode):
    if isinstance(mode, dict):
        return "mixed"
    return FLOAT32 if mode is None else mode


def _timed(trials, artifacts, examples):
    """The trials, with the latencies of their artifacts, `{name: Artifact}`."""
    sides = [artifact.answers_to for artifact in artifacts.values()]
    times = zip(latencies(sides, examples), latencies(sides, examples, BATCH), strict=True)
    times = dict(zip(artifacts, times, strict=True))
    return [
        dataclasses.replace(trial, latency=times[trial.name][0], batch_latency=times[trial.name][1])
        if trial.name in times
        else trial
        for trial in trials
    ]


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
