"""Drawing the next token, or taking the most probable one."""

from keras import ops

from lingxi.generation.constraints import NEVER
from lingxi.layers.gather import pick


def most_probable(scores):
    """int32 `[…]` from `[…, vocab]`; `top_k`, as TFLite has no argmax of floats like Keras'."""
    return ops.squeeze(ops.cast(ops.top_k(scores, 1)[1], "int32"), -1)


def draw(logits, options, temperature, top_p, uniform):
    """One token of each row, by inverting the cumulative distribution.

    Args:
        logits: float32 `[batch, rows, vocab]`.
        options: `lingxi.generation.DecodingOptions`: its `top_k`, `min_p` and `typical_p`.
        temperature, top_p: float scalars.
        uniform: float32 `[batch, rows]`, in [0, 1).

    Returns:
        int32 `[batch, rows]`.
    """
    vocab_size = logits.shape[-1]
    logits = logits / temperature
    ids = None
    needs_order = options.top_p < 1.0 or options.typical_p < 1.0
    if 0 < options.top_k < vocab_size or needs_order:
        count = min(options.top_k, vocab_size) if options.top_k else vocab_size
        logits, ids = ops.top_k(logits, count)  # [batch, rows, count], falling
    if options.top_p < 1.0:
        probabilities = ops.softmax(logits)
        before = ops.cumsum(probabilities, axis=-1) - probabilities
        logits = ops.where(before < top_p, logits, NEVER)
    if options.min_p > 0.0:
        probabilities = ops.softmax(logits)
        least = options.min_p * ops.max(probabilities, axis=-1, keepdims=True)
        logits = ops.where(probabilities < least, NEVER, logits)
    if options.typical_p < 1.0:
        logits = _typical(logits, options.typical_p)
    cumulative = ops.cumsum(ops.softmax(logits), axis=-1)
    total = cumulative[:, :, -1:]
    place = ops.expand_dims(uniform, 2) * total
    chosen = ops.sum(ops.cast(cumulative <= place, "int32"), axis=-1)
    # Rounding may lead behind the last token that is possible at all.
    possible = ops.sum(ops.cast(cumulative < total, "int32"), axis=-1)
    chosen = ops.minimum(chosen, possible)
    if ids is None:
        return chosen
    batch, rows, count = ops.shape(ids)
    flat = ops.reshape(ids, (batch * rows, count))
    return ops.reshape(pick(flat, ops.reshape(chosen, (batch * rows, 1))), (batch, rows))


def _typical(logits, mass):
    """`logits`, of falling order, without those far from the typical information."""
    log_probabilities = ops.log_softmax(logits)
    probabilities = ops.exp(log_probabilities)
    entropy = -ops.sum(probabilities * log_probabilities, axis=-1, keepdims=True)
    distance = ops.abs(-log_probabilities - entropy)
    nearest, order = ops.top_k(-distance, distance.shape[-1])
    batch, rows, count = ops.shape(order)
    flat = ops.reshape(probabilities, (batch * rows, count))
    ordered = ops.reshape(
        pick(flat, ops.reshape(order, (batch * rows, count))), (batch, rows, count)
    )
    before = ops.cumsum(ordered, axis=-1) - ordered
    # The farthest distance that is kept: of the last one before which `mass` is not yet full.
    farthest = ops.max(ops.where(before < mass, -nearest, 0.0), axis=-1, keepdims=True)
    return ops.where(distance <= farthest, logits, NEVER)
