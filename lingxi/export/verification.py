"""Proof that an artifact gives the answers of its task."""

import dataclasses
import itertools
import pathlib
import statistics
import time

import numpy as np

from lingxi.export.artifact import load
from lingxi.export.examples import TEXTS

# Least share of equal labels by default. Where the task's own probabilities are within TIE of
# giving the other label, either is right.
MIN_AGREEMENT = {"float32": 1.0, "float16": 0.98, "bfloat16": 0.97, "int8": 0.9}
TIE = 1e-4
TIMED_RUNS = 30


class VerificationError(RuntimeError):
    """An artifact's labels differ from its task's by more than the tolerance."""


@dataclasses.dataclass(frozen=True)
class Report:
    """How an artifact compares with its task on the same texts.

    Attributes:
        path: of the artifact.
        format: "SavedModel" or "TFLite".
        precision: "float32", "float16", "bfloat16" or "int8".
        num_examples: texts compared.
        max_difference: largest absolute difference of any probability.
        label_agreement: share of texts with the same label.
        size: bytes of all files.
        latency, task_latency: median seconds for one raw text, artifact and Keras.
        signatures: `{name: (inputs, outputs)}`, each `{name: "dtype[shape]"}`.
    """

    path: pathlib.Path
    format: str
    precision: str
    num_examples: int
    max_difference: float
    label_agreement: float
    size: int
    latency: float
    task_latency: float
    signatures: dict

    def moved_to(self, path):
        return dataclasses.replace(self, path=pathlib.Path(path))

    def __str__(self):
        lines = [
            f"{self.format} {self.precision}: {self.path}",
            f"  size             {self.size / 1e6:.1f} MB",
            f"  latency          {self.latency * 1e3:.1f} ms a text"
            f" (Keras {self.task_latency * 1e3:.1f} ms)",
            f"  label agreement  {self.label_agreement:.1%} on {self.num_examples} texts",
            f"  max difference   {self.max_difference:.2g} of a probability",
        ]
        for name, (inputs, outputs) in self.signatures.items():
            lines.append(f"  {name}: {_listed(inputs)} -> {_listed(outputs)}")
        return "\n".join(lines)


def verify(task, path, examples=None, min_agreement=None):
    """Run texts through the artifact at `path` and through `task`, and compare.

    Args:
        task: the task that was exported.
        path: the artifact.
        examples: texts or pairs, by default lingxi's own varied sentences.
        min_agreement: least share of equal labels, by default that of the artifact's precision.

    Returns:
        A `Report`.

    Raises:
        VerificationError: fewer labels agree.
    """
    artifact = load(path)
    settings = artifact.metadata
    precision = settings.get("precision") or settings.get("quantize") or "float32"
    if examples is None:
        examples = list(itertools.pairwise(TEXTS)) if settings["pairs"] else TEXTS
    if not len(examples):
        raise ValueError("verification needs at least one example, got none")
    if (settings["labels"], settings["multi_label"]) != (task.labels, task.multi_label):
        raise VerificationError(
            f"the artifact's labels are {settings['labels']} (multi_label="
            f"{settings['multi_label']}), but the task's are {task.labels} "
            f"(multi_label={task.multi_label})"
        )
    expected = _probabilities(task, examples, settings)
    found = np.array([list(a.probabilities.values()) for a in artifact.classify(examples)])

    error = _label_error(expected, found, settings["multi_label"])
    agreement = float(np.mean(error < TIE))
    wanted = MIN_AGREEMENT[precision] if min_agreement is None else min_agreement
    if not np.isfinite(found).all() or agreement < wanted:
        wrong = int(np.argmax(error))
        raise VerificationError(
            f"the artifact gives the label of its task for {agreement:.1%} of {len(examples)} "
            f"texts, but {wanted:.1%} are required; nothing was written. The worst is "
            f"{examples[wrong]!r}: task {np.round(expected[wrong], 4).tolist()}, artifact "
            f"{np.round(found[wrong], 4).tolist()}. Choose a milder quantization or precision, "
            "or pass min_agreement"
        )
    path = pathlib.Path(path)
    return Report(
        path=path,
        format="TFLite" if path.is_file() else "SavedModel",
        precision=precision,
        num_examples=len(examples),
        max_difference=float(np.abs(found - expected).max()),
        label_agreement=agreement,
        size=_size(path),
        latency=_latency(artifact.classify, examples),
        task_latency=_latency(task.classify, examples),
        signatures=artifact.describe_signatures(),
    )


def _label_error(expected, found, multi_label):
    """By how much of a probability the artifact's labels are wrong, `[examples]`; 0 if right."""
    if multi_label:  # every label of 0.5 and more is an answer
        differs = (expected >= 0.5) != (found >= 0.5)
        return np.where(differs, np.abs(expected - 0.5), 0.0).max(axis=-1)
    best = found.argmax(axis=-1)[:, np.newaxis]
    return expected.max(axis=-1) - np.take_along_axis(expected, best, axis=-1)[:, 0]


def _probabilities(task, examples, settings):
    """What the task answers when it reads as many tokens as the artifact."""
    if settings["max_length"] == task.max_length:
        answers = task.classify(examples, verbose=False)
        return np.array([list(answer.probabilities.values()) for answer in answers])
    texts, pairs = (
        (examples, None) if not settings["pairs"] else map(list, zip(*examples, strict=True))
    )
    inputs = task.tokenizer(texts, pairs, max_length=settings["max_length"])
    return task.answers(inputs)["probabilities"].numpy()


def _latency(classify, examples):
    """Median seconds for one example, after a warm-up."""
    classify(examples[:1])
    times = []
    for run in range(TIMED_RUNS):
        example = examples[run % len(examples)]
        start = time.perf_counter()
        classify([example])
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _size(path):
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)


def _listed(specs):
    return ", ".join(f"{name} {spec}" for name, spec in specs.items())
