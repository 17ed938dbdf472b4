"""What a classifier answers."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Classification:
    """The answer for one text.

    Attributes:
        label: the most probable label.
        score: its probability.
        probabilities: of every label.
        labels: of a multi-label classifier, all labels with a probability of at least 0.5.
    """

    label: str
    score: float
    probabilities: dict
    labels: tuple = ()


def classifications(probabilities, labels, multi_label):
    """A `Classification` for each row of probabilities `[texts, labels]`."""
    answers = []
    for row in probabilities:
        best = labels[int(np.argmax(row))]
        named = {label: float(p) for label, p in zip(labels, row, strict=True)}
        chosen = tuple(label for label, p in named.items() if p >= 0.5) if multi_label else ()
        answers.append(Classification(best, named[best], named, chosen))
    return answers
