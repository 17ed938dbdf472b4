"""Matches between two sets of vectors: dual softmax, mutual nearest neighbours.

Rocco et al. 2018 (NCNet) for the dual softmax; LoFTR (Sun et al. 2021), section 3.3.
"""

from keras import ops

from lingxi.layers.gather import pick

LOWEST = -1e9  # a similarity of no weight that is finite, so that a row of them has no NaN


def dual_softmax(a, b, temperature, mask_a=None, mask_b=None):
    """The confidence that two vectors match: `softmax over b · softmax over a` of `⟨a, b⟩ / dτ`.

    Computed as `exp(2s - log Σ exp s - log Σ exp s)`, in float32. The matrix takes
    `4 · batch · cells_a · cells_b` bytes and at its computation three times that: 5.8 MB for a
    pair of 1,200 cells each (320x240 pixels at stride 8), 92 MB for 4,800, 1.07 GB for 16,384
    (1024x1024). `mutual_nearest_blockwise` needs no such matrix.

    Args:
        a, b: `[batch, cells_a, dim]`, `[batch, cells_b, dim]`.
        temperature: τ.
        mask_a, mask_b: bool `[batch, cells]`, True for real cells.

    Returns:
        float32 `[batch, cells_a, cells_b]`; 0 where either cell is not real.
    """
    similarity, valid = _similarity(a, b, temperature, mask_a, mask_b)
    over_b = ops.logsumexp(similarity, axis=2, keepdims=True)
    over_a = ops.logsumexp(similarity, axis=1, keepdims=True)
    confidence = ops.exp(2 * similarity - over_b - over_a)
    return confidence if valid is None else ops.where(valid, confidence, 0.0)


def mutual_nearest(confidence):
    """For every a its best b, and whether that has no better a.

    Args:
        confidence: `[batch, cells_a, cells_b]`.

    Returns:
        int32 `[batch, cells_a]`, the best b, the first of several; its confidence, float32; bool,
        whether this is also the greatest confidence of that b.
    """
    best, nearest = _greatest(confidence)
    best_of_b = ops.max(confidence, axis=1)  # [batch, cells_b]
    return nearest, best, pick(best_of_b, nearest) == best


def mutual_nearest_blockwise(a, b, temperature, mask_a=None, mask_b=None, values=2**24):
    """`mutual_nearest(dual_softmax(…))` with a bounded part of the matrix at a time.

    Blocks of rows are computed twice: for the sums over a, then for the greatest confidences.

    Args:
        a, b, temperature, mask_a, mask_b: as of `dual_softmax`.
        values: of one pair in one block, at most, but never less than a row; 2**24 are 64 MiB.

    Returns:
        As of `mutual_nearest`.
    """
    batch, count_a, dim = ops.shape(a)
    count_b = ops.shape(b)[1]
    if mask_a is None:
        mask_a = ops.ones((batch, count_a), "bool")
    rows = least(count_a, values // count_b + 1)
    steps = (count_a + rows - 1) // rows

    def block(step):
        """Similarities of `rows` cells of a, where these start, and which are new."""
        start = ops.minimum(step * rows, count_a - rows)  # the last block overlaps the one before
        part = ops.slice(a, (0, start, 0), (batch, rows, dim))
        real = ops.slice(mask_a, (0, start), (batch, rows))
        similarity, valid = _similarity(part, b, temperature, real, mask_b)
        new = ops.expand_dims(start + ops.arange(rows) >= step * rows, 1)  # [rows, 1]
        return similarity, valid, start, new

    def add_block(step, over_a):
        similarity, _, _, new = block(step)
        part = ops.logsumexp(ops.where(new, similarity, LOWEST), axis=1, keepdims=True)
        return step + 1, ops.logaddexp(over_a, part)

    def compare_block(step, nearest, best, best_of_b):
        similarity, valid, start, _ = block(step)
        over_b = ops.logsumexp(similarity, axis=2, keepdims=True)
        confidence = ops.exp(2 * similarity - over_b - over_a)
        value, index = _greatest(ops.where(valid, confidence, 0.0))
        nearest = ops.slice_update(nearest, (0, start), index)
        best = ops.slice_update(best, (0, start), value)
        best_of_b = ops.maximum(best_of_b, ops.max(ops.where(valid, confidence, 0.0), axis=1))
        return step + 1, nearest, best, best_of_b

    over_a = ops.full((batch, 1, count_b), LOWEST, "float32")
    _, over_a = ops.while_loop(lambda step, _: step < steps, add_block, (0, over_a))
    empty = (
        ops.zeros((batch, count_a), "int32"),
        ops.zeros((batch, count_a), "float32"),
        ops.zeros((batch, count_b), "float32"),
    )
    _, nearest, best, best_of_b = ops.while_loop(
        lambda step, *_: step < steps, compare_block, (0, *empty)
    )
    return nearest, best, pick(best_of_b, nearest) == best


def inside_border(mask, border):
    """Which cells are real and at least `border` cells from what is not, or from the edge.

    Args:
        mask: bool `[batch, rows, columns]`, True for real cells.
        border: cells.

    Returns:
        bool `[batch, rows * columns]`.
    """
    batch, rows, columns = ops.shape(mask)
    outside = ops.cast(ops.logical_not(mask), "float32")
    outside = ops.pad(outside, ((0, 0), (border, border), (border, border)), constant_values=1.0)
    near = ops.max_pool(
        ops.expand_dims(outside, -1), 2 * border + 1, 1, "valid", data_format="channels_last"
    )
    return ops.reshape(near, (batch, rows * columns)) < 0.5


def least(x, y):
    """The smaller of two sizes, of which either may be known only when the graph runs."""
    return min(x, y) if isinstance(x, int) and isinstance(y, int) else ops.minimum(x, y)


def _similarity(a, b, temperature, mask_a, mask_b):
    """`⟨a, b⟩ / dτ`, `LOWEST` where a cell is not real; and where both are, None: everywhere."""
    scale = 1 / (a.shape[-1] * temperature)
    a, b = ops.cast(a, "float32") * scale, ops.cast(b, "float32")
    similarity = ops.matmul(a, ops.transpose(b, (0, 2, 1)))  # [batch, cells_a, cells_b]
    valid = None
    if mask_a is not None:
        valid = ops.expand_dims(mask_a, 2)
    if mask_b is not None:
        real_b = ops.expand_dims(mask_b, 1)
        valid = real_b if valid is None else ops.logical_and(valid, real_b)
    if valid is not None:
        similarity = ops.where(valid, similarity, LOWEST)
    return similarity, valid


def _greatest(confidence):
    """The greatest on the last axis and where it is, by `top_k`: TFLite lacks Keras' `argmax`."""
    best, index = ops.top_k(confidence, 1)
    return ops.squeeze(best, -1), ops.cast(ops.squeeze(index, -1), "int32")
