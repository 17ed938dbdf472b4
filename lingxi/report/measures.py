"""What the answers of a trained model say of it."""

import dataclasses
import types

import numpy as np

from lingxi.export import quality

BINS = 15


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How often what was said with a certain confidence was right (Guo et al. 2017).

    Attributes:
        counts, confidences, shares: of each of `BINS` equal bins of confidence how many are in it,
            the mean of what they said, and the share that was right.
    """

    counts: np.ndarray
    confidences: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(cls, confidences, are_right):
        """Of numbers from 0 to 1, and whether each was right."""
        confidences, are_right = np.asarray(confidences, float), np.asarray(are_right, float)
        bins = np.minimum((confidences * BINS).astype(int), BINS - 1)
        counts, said, right = (
            np.bincount(bins, weights, BINS) for weights in (None, confidences, are_right)
        )
        return cls(counts, said / np.maximum(counts, 1), right / np.maximum(counts, 1))

    @property
    def error(self):
        """The expected calibration error: the mean distance of confidence and share."""
        return float(self._mean(np.abs(self.confidences - self.shares)))

    @property
    def excess(self):
        """By how much the confidence is too high in the mean."""
        return float(self._mean(self.confidences - self.shares))

    def _mean(self, values):
        return np.sum(self.counts * values) / max(np.sum(self.counts), 1)


class Classified:
    """The answers of a classifier beside the right ones.

    Attributes:
        labels: names.
        targets: bool `[examples, labels]`.
        probabilities: float `[examples, labels]`.
        scores: a dict, as `lingxi evaluate` prints it.
        losses: the cross-entropy of each example, `[examples]`.
    """

    def __init__(self, run):
        facts = run.model["metadata"]
        self.labels, self.multi_label = facts["labels"], facts["multi_label"]
        wanted = [self._named(row["wanted"]) for row in run.examples]
        answers = [types.SimpleNamespace(**row["answer"]) for row in run.examples]
        self.scores = _scores(run, answers, wanted)
        own = [set(row) if self.multi_label else {row} for row in wanted]
        self.targets = np.array([[label in row for label in self.labels] for row in own])
        self.probabilities = np.array([list(a.probabilities.values()) for a in answers])
        likelihoods = np.where(self.targets, self.probabilities, 1 - self.probabilities)
        losses = -np.log(np.maximum(likelihoods, np.finfo("float32").tiny))
        self.losses = losses.mean(-1) if self.multi_label else losses[self.targets]

    def _named(self, wanted):
        """A label, or several, by name: ids are taken, too."""
        if isinstance(wanted, list):
            return [self._named(one) for one in wanted]
        return self.labels[wanted] if isinstance(wanted, int) else wanted

    def confusion(self):
        """How many of each label (rows) were taken for each (columns), `[labels, labels]`."""
        table = np.zeros((len(self.labels),) * 2, int)
        np.add.at(table, (self.targets.argmax(-1), self.probabilities.argmax(-1)), 1)
        return table

    def calibration(self):
        """Of the label that was said; with several labels a text, of each yes or no."""
        if self.multi_label:
            return Calibration.of(self.probabilities.ravel(), self.targets.ravel())
        said = self.probabilities.argmax(-1)
        return Calibration.of(self.probabilities.max(-1), said == self.targets.argmax(-1))


class Tagged:
    """The entities that a model found beside the right ones.

    Attributes:
        scores: a dict, as `lingxi evaluate` prints it.
        wanted: for each text a set of `(start, end, label)`.
        found: for each text `{(start, end, label): score}`.
    """

    def __init__(self, run):
        answers = [[types.SimpleNamespace(**e) for e in row["answer"]] for row in run.examples]
        wanted = [[tuple(entity) for entity in row["wanted"]] for row in run.examples]
        self.scores = _scores(run, answers, wanted)
        self.wanted = [set(row) for row in wanted]
        self.found = [{(e.start, e.end, e.label): e.score for e in row} for row in answers]

    def errors(self):
        """Entities of each text that were missed or that are none, `[examples]`."""
        pairs = zip(self.wanted, self.found, strict=True)
        return np.array([len(wanted ^ found.keys()) for wanted, found in pairs])

    def calibration(self):
        """Of the entities that were found."""
        pairs = list(zip(self.wanted, self.found, strict=True))
        scores = [score for _, found in pairs for score in found.values()]
        return Calibration.of(scores, [span in wanted for wanted, found in pairs for span in found])


def _scores(run, answers, wanted):
    """As `lingxi.export.quality.measured`, of answers that were written down."""
    verb = run.model["verb"]
    recorded = types.SimpleNamespace(**{verb: lambda inputs: answers})
    inputs = [row["input"] for row in run.examples]
    return quality.measured(recorded, verb, run.model["metadata"], inputs, wanted)
