"""A run as one HTML page that needs nothing else."""

import importlib.resources
import pathlib

from lingxi.files import atomic_path
from lingxi.report import answers, charts
from lingxi.report.charts import Line
from lingxi.report.markup import Markup, element, joined
from lingxi.report.run import Run

PAGE_NAME = "report.html"
HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
"""
COUNTED = ("epoch", "step", "seconds", "examples_per_second", "learning_rate")
METRICS = {"bleu": "BLEU", "f1": "F1", "mae": "Mean absolute error"}  # others by their own names
SIZES = {  # keys of a backbone's config: how the card calls them
    "num_layers": "layers",
    "hidden_dim": "wide",
    "num_heads": "heads",
    "intermediate_dim": "in between",
    "vocab_size": "tokens",
    "max_length": "positions",
}


def write(run, output=None):
    """Write the page of a training: all of it in one file, which loads nothing.

    It has the curves of loss, metrics and learning rate, and a card of the model. If the right
    answers to some examples were given to `lingxi.training.RunRecord`, it also shows of a
    `TextClassifier` the scores of each label, which labels are taken for which, calibration and the
    examples of highest loss; of a `TokenClassifier` the same of entities.

    Args:
        run: the directory that `lingxi train --output`, or `RunRecord`, has written.
        output: path of the page, by default `report.html` in the run.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: the directory has no record. ValueError: it is damaged.
    """
    run = Run.read(run)
    output = run.directory / PAGE_NAME if output is None else pathlib.Path(output).expanduser()
    text = page(run)
    with atomic_path(output) as temporary:
        temporary.write_text(text, "utf-8", errors="replace")
    return output


def page(run):
    """The page of a `Run`, a string."""
    name = run.directory.resolve().name
    style = importlib.resources.files("lingxi.report").joinpath("style.css").read_text("utf-8")
    tiles, sections = answers.of(run)
    tiles = [_tile(*tile) for tile in (*(tiles or _last_values(run)), *_effort(run))]
    head = [element("title", f"{name}: report"), element("style", Markup(style))]
    body = element(
        "body",
        _header(name, run),
        element("section", *tiles, class_="tiles"),
        _curves(run),
        *sections,
        _card(run),
    )
    return f"{HEAD}{joined(head)}\n</head>\n{body}\n</html>\n"


def _header(name, run):
    model = run.model
    kind = " on ".join(filter(None, (model["task"], model["architecture"])))
    text = f"{kind}, {model['num_parameters']:,} parameters · {model['created'][:10]}"
    return element("header", element("h1", name), element("p", text))


def _tile(name, value):
    return element("div", element("b", value), element("span", name), class_="tile")


def _last_values(run):
    """Pairs of name and value: the metrics of the last epoch, of validation data if there are."""
    last = run.epochs[-1] if run.epochs else {}
    names = [name for name in last if name.startswith("val_")]
    names = names or [name for name in last if name not in COUNTED]
    return [(_title(name), charts.number(last[name])) for name in names]


def _effort(run):
    """Pairs of name and value: how long it took."""
    yield "epochs", str(len(run.epochs))
    yield "training time", duration(run.seconds)
    speeds = [row["examples_per_second"] for row in run.epochs if row["examples_per_second"]]
    if speeds:
        yield "examples per second", charts.number(round(max(speeds), 1))


def _curves(run):
    """Loss and learning rate by step, metrics by epoch."""
    if not run.epochs and not run.steps:
        return Markup("")
    steps = [(row["step"], row["loss"]) for row in run.steps]
    validation = [(row["step"], row["val_loss"]) for row in run.epochs if "val_loss" in row]
    loss = [
        Line(None, steps, "faint"),
        Line("training", charts.smoothed(steps), "train"),
        Line("validation", validation, "validation", dotted=True),
    ]
    rates = [(row["step"], row["learning_rate"]) for row in run.steps]
    names = {name.removeprefix("val_"): None for row in run.epochs for name in row}
    figures = [_figure("Loss", [line for line in loss if line.points], "step", from_zero=True)]
    for metric in names:
        if metric not in (*COUNTED, "loss"):
            figures.append(_figure(_title(metric), _by_epoch(run, metric), "epoch"))
    figures.append(_figure("Learning rate", [Line(None, rates, "train")], "step", from_zero=True))
    return element("section", element("h2", "Training"), element("div", *figures, class_="charts"))


def _by_epoch(run, metric):
    curves = (("training", metric, "train"), ("validation", f"val_{metric}", "validation"))
    return [
        Line(name, points, style, dotted=True)
        for name, key, style in curves
        if (points := [(row["epoch"], row[key]) for row in run.epochs if key in row])
    ]


def _figure(title, curves, x_name, from_zero=False):
    return element("figure", element("h3", title), charts.lines(curves, x_name, from_zero))


def _title(metric):
    """How the page calls a metric."""
    name = metric.removeprefix("val_")
    named = METRICS.get(name, name.replace("_", " ").capitalize())
    if name == metric:
        return named
    return f"Validation {named if named.isupper() else named.lower()}"


def _card(run):
    """What was trained, on what, by what, and how good it is."""
    model = run.model
    last = run.epochs[-1] if run.epochs else {}
    rows = [
        ("Task", model["task"]),
        ("Architecture", _architecture(model)),
        ("Parameters", f"{model['num_parameters']:,}, {model['num_trainable']:,} of them trained"),
        *_metadata(model["metadata"]),
        *((name.replace("_", " ").capitalize(), _in_words(v)) for name, v in run.facts.items()),
        ("Examples measured", run.examples and f"{len(run.examples):,} of {run.num_examples:,}"),
        ("Optimizer", ", ".join(filter(None, (model["optimizer"], model["technique"])))),
        ("Precision", model["precision"]),
        ("Steps", f"{last['step']:,} in {len(run.epochs)} epochs" if last else "none"),
        ("Training time", duration(run.seconds)),
        *((_title(k), charts.number(v)) for k, v in last.items() if k not in COUNTED),
        ("Versions", ", ".join(f"{name} {v}" for name, v in model["versions"].items())),
        ("Machine", model["machine"]),
        ("Trained", model["created"]),
    ]
    items = [joined((element("dt", name), element("dd", value))) for name, value in rows if value]
    card = element("dl", *items, class_="card sheet")
    return element("section", element("h2", "Model card"), card)


def _architecture(model):
    sizes = [f"{v:,} {SIZES[k]}" for k, v in model["config"].items() if k in SIZES and v]
    return ": ".join(filter(None, (model["architecture"], ", ".join(sizes))))


def _metadata(metadata):
    """Rows: what the task says of itself."""
    for name, value in metadata.items():
        if name != "task" and value not in (None, False, [], {}):
            yield name.replace("_", " ").capitalize(), _in_words(value)


def _in_words(value):
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_in_words, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return charts.number(value) if isinstance(value, float) else str(value)


def duration(seconds):
    """A time in words: 8.3 s, 45.9 min, 2.1 h."""
    for unit, size in (("s", 1), ("min", 60)):
        if seconds < 100 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 3600:.1f} h"
