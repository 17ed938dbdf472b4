"""How good a task, or an artifact of it, is on data with the right answers."""

import numpy as np

MAIN = {  # verb of a task: the measure that a sweep compares; of each, more is better
    "answer": "f1",
    "classify": "accuracy",
    "embed": "spearman",
    "rate": "spearman",
    "tag": "f1",
}


def ask(model, verb, inputs):
    """The answers of a task or artifact: one for each text, or pair of texts."""
    if verb == "answer":
        questions, contexts = zip(*inputs, strict=True)
        return model.answer(list(questions), list(contexts))
    return getattr(model, verb)(inputs)


def measured(model, verb, facts, inputs, wanted):
    """The measures of a task or artifact, a dict.

    Args:
        model: has the method `verb`, one of `MAIN`.
        facts: what the task says of itself in its exports.
        inputs: texts; pairs of texts for an embedder, `(question, context)` for `answer`.
        wanted: for each a label (several in a list, if the task gives several), a number (for
            "embed" the similarity of the pair), the entities `(start, end, label)`, or the answers
            of which any is right.

    Raises:
        ValueError: not as many right answers as inputs, or an unknown label.
    """
    if verb not in MAIN:
        raise ValueError(f"no measure for a task that can {verb}; there are for {', '.join(MAIN)}")
    if len(inputs) != len(wanted) or not len(inputs):
        raise ValueError(
            f"got {len(inputs)} examples and {len(wanted)} right answers; there must be one for "
            "each, and at least one"
        )
    return {"examples": len(inputs), **_MEASURES[verb](model, facts, inputs, wanted)}


def _classify(model, facts, inputs, wanted):
    labels, multi_label = facts["labels"], facts["multi_label"]
    names = [set(own) if multi_label else {own} for own in wanted]
    unknown = set().union(*names) - set(labels)
    if unknown:
        raise ValueError(f"the labels {sorted(map(str, unknown))} are none of {labels}")
    answers = ask(model, "classify", inputs)
    probabilities = np.array([list(answer.probabilities.values()) for answer in answers])
    targets = np.array([[label in own for label in labels] for own in names])
    return of_labels(targets, probabilities, labels, multi_label)


def _tag(model, facts, inputs, wanted):
    answers = ask(model, "tag", inputs)
    found = {(i, e.start, e.end, e.label) for i, row in enumerate(answers) for e in row}
    wanted = {(i, *entity) for i, entities in enumerate(wanted) for entity in entities}
    types = sorted({kind for *_, kind in found | wanted})
    by_type = {kind: _of_entities(found, wanted, {kind}) for kind in types}
    return {**_of_entities(found, wanted, set(types)), "labels": by_type}


def _answer(model, facts, inputs, wanted):
    from lingxi.tasks import squad  # in TensorFlow, as the answerer

    answers = ask(model, "answer", inputs)
    chinese = squad.are_chinese([context for _, context in inputs])
    return squad.scores([answer.text for answer in answers], wanted, chinese)


def _rate(model, facts, inputs, wanted):
    found, wanted = np.array(ask(model, "rate", inputs)), np.array(wanted)
    return {"mae": float(np.mean(np.abs(found - wanted))), **correlations(found, wanted)}


def _embed(model, facts, inputs, wanted):
    first, second = (
        np.array(ask(model, "embed", list(side))) for side in zip(*inputs, strict=True)
    )
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines = np.sum(first * second, axis=1) / np.maximum(lengths, 1e-12)
    return correlations(cosines, np.array(wanted))


_MEASURES = {"answer": _answer, "classify": _classify, "embed": _embed, "rate": _rate, "tag": _tag}


def correlations(found, wanted):
    """Pearson's and Spearman's, 0 where all numbers of a side are equal."""
    return {
        "pearson": _pearson(found, wanted),
        "spearman": _pearson(_ranks(found), _ranks(wanted)),
    }


def _pearson(a, b):
    a, b = a - np.mean(a), b - np.mean(b)
    return float(np.sum(a * b) / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))


def _ranks(values):
    """The place of each in their order; of equal ones the mean of their places."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def of_labels(targets, probabilities, labels, multi_label):
    """The measures of predictions, as a dict.

    Args:
        targets: bool `[examples, labels]`.
        probabilities: float `[examples, labels]`.
        labels: names.
        multi_label: each label is a decision of its own; accuracy and loss are over all of them.
    """
    likelihoods = np.where(targets, probabilities, 1 - probabilities)
    if multi_label:
        predictions = probabilities >= 0.5
        accuracy = np.mean(predictions == targets)
    else:
        predictions = np.eye(len(labels), dtype=bool)[probabilities.argmax(-1)]
        accuracy = np.mean(predictions[targets])
        likelihoods = likelihoods[targets]
    hits, guesses, support = (
        values.sum(axis=0) for values in (predictions & targets, predictions, targets)
    )
    precision = _ratio(hits, guesses)
    recall = _ratio(hits, support)
    f1 = _ratio(2 * hits, guesses + support)
    return {
        "accuracy": float(accuracy),
        "loss": float(-np.mean(np.log(np.maximum(likelihoods, np.finfo("float32").tiny)))),
        "macro_f1": float(np.mean(f1)),
        "labels": {
            label: {
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "support": int(support[index]),
            }
            for index, label in enumerate(labels)
        },
    }


def _ratio(numerator, denominator):
    """Elementwise; 0 where there is nothing to divide by."""
    return numerator / np.maximum(denominator, 1)


def _of_entities(found, wanted, types):
    """Of entities of these types; one is right if its place and its type are."""
    found = {entity for entity in found if entity[-1] in types}
    wanted = {entity for entity in wanted if entity[-1] in types}
    hits = len(found & wanted)
    return {
        "precision": hits / max(len(found), 1),
        "recall": hits / max(len(wanted), 1),
        "f1": 2 * hits / max(len(found) + len(wanted), 1),
        "support": len(wanted),
    }
