"""Proof that an artifact gives the answers of its task."""

import dataclasses
import itertools
import pathlib
import statistics
import time

import numpy as np

from lingxi.answers.batches import stacked
from lingxi.export.artifact import load
from lingxi.export.precision import in_precision
from lingxi.tasks.generation import GenerationTask
from lingxi.tasks.multi_task import MultiTask

# Least share of equal answers by default. Where the task itself is within TIE of giving the other
# answer, either is right.
MIN_AGREEMENT = {
    "float32": 1.0,
    "float16": 0.98,
    "int8_weights": 0.98,
    "bfloat16": 0.97,
    "int8": 0.9,
    "int8_static": 0.8,
    "mixed": 0.8,
    "int4": 0.7,
}
TIE = 1e-4
MAX_DIFFERENCE = 1e-3  # of any number of a float32 artifact, unless `min_agreement` is given
SHOWN = 20  # numbers of an answer, in a message
SCORED = 8  # texts at once
TIMED_RUNS, TIMED_SECONDS = 30, 3.0  # at most, of each side


class VerificationError(RuntimeError):
    """An artifact's answers differ from its task's by more than the tolerance."""


@dataclasses.dataclass(frozen=True)
class Report:
    """How an artifact compares with its task on the same texts.

    Attributes:
        path: of the artifact.
        format: "SavedModel", "TFLite" or "ONNX".
        precision: "float32", "float16", "bfloat16", "int8", "int8_weights", "int8_static", "int4",
            or "mixed" where layers differ.
        target: of a SavedModel "cpu", "gpu" or None, any machine.
        num_examples: texts compared.
        max_difference: largest absolute difference of any number, such as a probability.
        agreement: share of texts with the same answer, by all signatures.
        size: bytes of all files.
        latency, task_latency: median seconds for one raw text, artifact and Keras.
        signatures: `{name: (inputs, outputs)}`, each `{name: "dtype[shape]"}`.
        unit: what an example is.
        perplexity, task_perplexity: of what the task made of the examples (of a `TextGenerator`,
            of the examples too), to the artifact and to the task; None where no text is made.
        heads: `{name: Report}` of a `MultiTask`, whose own numbers are of all heads: the worst
            agreement and difference, the sum of the latencies.
    """

    path: pathlib.Path
    format: str
    precision: str
    num_examples: int
    max_difference: float
    agreement: float
    size: int
    latency: float
    task_latency: float
    signatures: dict
    heads: dict = dataclasses.field(default_factory=dict)
    unit: str = "text"
    target: str | None = None
    perplexity: float | None = None
    task_perplexity: float | None = None

    @property
    def label_agreement(self):
        """`agreement`, where answers are labels."""
        return self.agreement

    def moved_to(self, path):
        heads = {name: report.moved_to(path) for name, report in self.heads.items()}
        return dataclasses.replace(self, path=pathlib.Path(path), heads=heads)

    def __str__(self):
        variant = f"{self.precision} for {self.target}" if self.target else self.precision
        lines = [
            f"{self.format} {variant}: {self.path}",
            f"  size             {_readable_size(self.size)}",
            f"  latency          {self.latency * 1e3:.1f} ms a {self.unit}"
            f" (Keras {self.task_latency * 1e3:.1f} ms)",
            f"  agreement        {self.agreement:.1%} on {self.num_examples} {self.unit}s",
            f"  max difference   {self.max_difference:.2g}",
        ]
        if self.perplexity is not None:
            lines.append(
                f"  perplexity       {self.perplexity:.4g} (Keras {self.task_perplexity:.4g})"
            )
        for name, head in self.heads.items():
            lines.append(
                f"  {name + ':':16} {head.agreement:.1%} on {head.num_examples}, max difference "
                f"{head.max_difference:.2g}, {head.latency * 1e3:.1f} ms"
            )
        for name, (inputs, outputs) in self.signatures.items():
            lines.append(f"  {name}: {_listed(inputs)} -> {_listed(outputs)}")
        return "\n".join(lines)


def verify(task, path, examples=None, min_agreement=None):
    """Run texts through the artifact at `path` and through `task`, and compare.

    Every signature is compared: raw text in, and token ids in, where the artifact has that. The
    task computes in float32 for it, in whatever precision it was trained.

    Args:
        task: the task that was exported.
        path: the artifact.
        examples: texts or pairs, in any form that the task takes, or an iterator of them; by
            default lingxi's own varied sentences; of a `MultiTask` only `{name: examples}`.
        min_agreement: least share of equal answers, by default that of the artifact's precision;
            without it, no number of a float32 artifact may differ by more than 0.001.

    Returns:
        A `Report`.

    Raises:
        VerificationError: fewer answers agree, or the numbers differ.
    """
    artifact = load(path)
    if isinstance(task, MultiTask):
        return _verify_heads(task, artifact, examples, min_agreement)
    return _verify(task, artifact, examples, min_agreement)


def _verify_heads(multi, artifact, examples, min_agreement):
    found = list(artifact.metadata.get("tasks", ()))
    if found != list(multi.tasks):
        raise VerificationError(
            f"the artifact has the tasks {found}, but the MultiTask {list(multi.tasks)}"
        )
    reports = {}
    for name, task in multi.tasks.items():
        own = multi.setting({} if examples is None else examples, name)
        try:
            reports[name] = _verify(task, artifact[name], own, min_agreement)
        except VerificationError as error:
            raise VerificationError(f"of the task {name!r}: {error}") from None
    first, *_ = heads = reports.values()
    return dataclasses.replace(
        first,
        num_examples=sum(report.num_examples for report in heads),
        max_difference=max(report.max_difference for report in heads),
        agreement=min(report.agreement for report in heads),
        latency=sum(report.latency for report in heads),
        task_latency=sum(report.task_latency for report in heads),
        signatures=artifact.graph.describe_signatures(),
        heads=reports,
    )


def _verify(task, artifact, examples, min_agreement):
    facts = artifact.metadata
    for name, wanted in task.export_metadata().items():
        if facts.get(name) != wanted:
            raise VerificationError(
                f"the artifact has {name}={facts.get(name)!r}, but the task {name}={wanted!r}"
            )
    examples = artifact.examples() if examples is None else artifact.listed(examples)
    if not examples:
        raise ValueError("verification needs at least one example, got none")

    signatures = artifact.graph.describe_signatures()  # before a call resizes an input
    exact = in_precision(task, "float32")
    expected = artifact.wanted(exact, examples)
    found = artifact.found(exact, examples)
    errors = np.array([task.disagreement(expected, answers) for answers in found])
    agreement = artifact.agreement(errors.max(axis=0), TIE)
    difference = float(np.max([task.difference(expected, answers) for answers in found]))
    precision = facts.get("precision") or facts.get("quantize") or "float32"
    if isinstance(precision, dict):
        precision = "mixed"
    wanted = MIN_AGREEMENT[precision] if min_agreement is None else min_agreement
    if not np.isfinite(difference) or agreement < wanted:
        signature, worst = np.unravel_index(errors.argmax(), errors.shape)
        raise VerificationError(
            f"the artifact gives the answer of its task for {agreement:.1%} of {len(examples)} "
            f"{artifact.unit}s, but {wanted:.1%} are required. The worst is "
            f"{_short(examples[worst])}: "
            f"task {_row(expected, worst)}, artifact {_row(found[signature], worst)}. Choose a "
            "milder quantization or precision, or pass min_agreement"
        )
    if precision == "float32" and min_agreement is None and difference > MAX_DIFFERENCE:
        raise VerificationError(
            f"the numbers of the float32 artifact differ from its task's by up to {difference:.2g}"
        )
    path = artifact.path
    perplexity, task_perplexity = perplexities(exact, artifact, examples, expected)
    return Report(
        path=path,
        format=facts.get("format", "TFLite" if path.is_file() else "SavedModel"),
        precision=precision,
        num_examples=len(examples),
        max_difference=difference,
        agreement=agreement,
        size=size(path),
        latency=latencies([artifact.answers_to], examples)[0],
        task_latency=latencies([task.answers_to], examples)[0],
        signatures=signatures,
        unit=artifact.unit,
        target=facts.get("target"),
        perplexity=perplexity,
        task_perplexity=task_perplexity,
    )


def perplexities(task, artifact, examples, made):
    """Of what `task` made of the examples: to the artifact, and to the task itself.

    None and None, if it makes no text, or none of it has tokens.
    """
    if not isinstance(task, GenerationTask) or not made["lengths"][:, 0].any():
        return None, None
    padding = "max_length" if artifact.metadata.get("input") else "longest"
    inputs = task.tokenized(examples, None, artifact.metadata["max_length"], padding)
    given, is_token = task.scored({name: x.numpy() for name, x in inputs.items()}, made)

    def own(inputs):
        return {"log_probs": task.log_probs_graph(**inputs).numpy()}

    def perplexity(score):
        parts = (
            {name: values[start : start + SCORED] for name, values in given.items()}
            for start in range(0, len(examples), SCORED)
        )
        log_probs = stacked(score(part) for part in parts)["log_probs"]
        return float(np.exp(-log_probs[is_token].mean()))

    return perplexity(artifact.graph.score), perplexity(own)


def verify_unpublished(task, path, examples, min_agreement):
    """`verify` an artifact that is removed again if it fails."""
    try:
        return verify(task, path, examples, min_agreement)
    except VerificationError as error:
        raise VerificationError(f"{error}. Nothing was written") from None


def _row(answers, index):
    """One answer, for a message."""
    return {name: _plain(values[index]) for name, values in answers.items()}


def _short(example):
    """An example, for a message: the numbers of a picture say little."""
    if isinstance(example, tuple) and isinstance(example[0], np.ndarray):
        return f"pictures of the shapes {[picture.shape for picture in example]}"
    return repr(example)


def _plain(value):
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if value.dtype.kind == "O":
        return [_plain(item) for item in value]
    shown = value[:SHOWN] if value.ndim else value
    return (np.round(shown, 4) if shown.dtype.kind == "f" else shown).tolist()


def latencies(sides, examples, batch=1):
    """Median seconds of each side for `batch` examples at a time, after a warm-up.

    Sides, functions of a list of examples, take turns: what else the machine does slows all alike.
    """
    endless = itertools.cycle(examples)
    rounds = [list(itertools.islice(endless, batch)) for _ in range(TIMED_RUNS)]
    for side in sides:
        side(rounds[0])
    times = []
    for texts in rounds:
        if np.sum(times) > TIMED_SECONDS * len(sides):
            break
        times.append([_seconds(side, texts) for side in sides])
    return [statistics.median(own) for own in zip(*times, strict=True)]


def _seconds(side, texts):
    start = time.perf_counter()
    side(texts)
    return time.perf_counter() - start


def size(path):
    """Bytes of all files of an artifact."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)


def _readable_size(size):
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def _listed(specs):
    return ", ".join(f"{name} {spec}" for name, spec in specs.items())
