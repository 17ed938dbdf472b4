"""How sure a classifier should be (Guo et al. 2017, "On Calibration of Modern Neural Networks")."""

import numpy as np

COLDEST, HOTTEST = 1 / 20, 20.0
HALVINGS = 60  # of the interval between them


def best_temperature(logits, targets):
    """The T under which `logits / T` make `targets` most likely (section 4.2).

    The likelihood is concave in `1 / T`, so its slope there changes its sign once.

    Args:
        logits: float `[examples, labels]`.
        targets: label ids int `[examples]`, of a softmax; or 0/1 `[examples, labels]`, of sigmoids.

    Returns:
        A number from `COLDEST` to `HOTTEST`: these where no example is wrong, or as many as by
        chance.
    """
    logits, targets = np.asarray(logits, np.float64), np.asarray(targets)
    if targets.ndim == 1:
        targets = np.arange(logits.shape[1]) == targets[:, np.newaxis]
        logits = logits - logits.max(axis=1, keepdims=True)
        expected = _softmax
    else:
        expected = _sigmoid
    least, most = np.log([1 / HOTTEST, 1 / COLDEST])  # of 1 / T
    for _ in range(HALVINGS):
        middle = (least + most) / 2
        slope = np.sum((targets - expected(np.exp(middle) * logits)) * logits)
        least, most = (middle, most) if slope > 0 else (least, middle)
    return float(np.exp(-(least + most) / 2))


def _softmax(logits):
    exps = np.exp(logits)
    return exps / exps.sum(axis=1, keepdims=True)


def _sigmoid(logits):
    return 0.5 * (np.tanh(0.5 * logits) + 1.0)
