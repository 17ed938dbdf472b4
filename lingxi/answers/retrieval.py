"""Comparing embeddings, and finding the nearest, for tasks and artifacts that embed texts."""

import dataclasses

import numpy as np

BLOCK = 4096  # queries, and texts of the corpus, that are compared at once: 64 MB of scores
QUERY_PROMPTS = ("query",)
CORPUS_PROMPTS = ("document", "passage", "corpus")  # the first that there is


@dataclasses.dataclass(frozen=True)
class Hit:
    """One found text.

    Attributes:
        index: in the corpus.
        score: cosine with the query.
        text: of the corpus, or None if that was given as embeddings.
    """

    index: int
    score: float
    text: str | None = None


def similarity(embed, a, b):
    """Cosines of all of `a` with all of `b`: float32 `[a, b]`.

    Args:
        embed: a function from texts to embeddings.
        a, b: lists of texts, or float arrays of embeddings `[texts, dim]`; one str or one
            embedding has no axis in the result.
    """
    a, b = (unit(x if is_embeddings(x) else embed(x)) for x in (a, b))
    return a @ b.T


def search(embed, prompts, queries, corpus, top_k, block):
    """Of each query, the most similar texts of the corpus: a list of `Hit`, the best first.

    Args:
        embed: a function from texts and the name of a prompt, or None, to embeddings.
        prompts: `{name: text}`; one for queries and one for the corpus are used if there are such.
        queries: texts, or embeddings `[queries, dim]`; for one str or one embedding one list is
            returned, else a list of lists.
        corpus: texts, or embeddings `[texts, dim]`.
        top_k: hits of a query; fewer only if the corpus has fewer texts.
        block: how many queries are compared with how many texts at once.

    Raises:
        ValueError: a `top_k` or `block` below 1, or embeddings of other shapes.
    """
    if top_k < 1 or block < 1:
        raise ValueError(f"top_k and block must be at least 1, got {top_k} and {block}")
    texts = None if is_embeddings(corpus) else list(corpus)
    vectors = [
        np.asarray(x) if is_embeddings(x) else embed(x, _first_of(prompts, names))
        for x, names in ((queries, QUERY_PROMPTS), (corpus, CORPUS_PROMPTS))
    ]
    is_one = vectors[0].ndim == 1
    query, found = np.atleast_2d(vectors[0]), vectors[1]
    if query.ndim != 2 or found.ndim != 2 or query.shape[1] != found.shape[1]:
        raise ValueError(
            "queries and corpus must be texts or embeddings [texts, dim] of the same dim, got "
            f"embeddings of {list(vectors[0].shape)} and {list(found.shape)}"
        )
    answers = []
    for start in range(0, len(query), block):
        indices, scores = _nearest(query[start : start + block], found, top_k, block)
        for row in zip(indices.tolist(), scores.tolist(), strict=True):
            found_here = zip(*row, strict=True)
            answers.append([Hit(i, s, None if texts is None else texts[i]) for i, s in found_here])
    return answers[0] if is_one else answers


def is_embeddings(x):
    """Whether `x` is an array of numbers, not texts."""
    return hasattr(x, "dtype") and np.dtype(getattr(x.dtype, "name", x.dtype)).kind == "f"


def unit(embeddings):
    """`[…, dim]` at length 1, float32; zeros stay zeros."""
    embeddings = np.asarray(embeddings, "float32")
    length = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return embeddings / np.maximum(length, 1e-12)


def prompt_named(name, prompts):
    """The prompt of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in prompts:
        raise ValueError(f"no prompt {name!r}; this embedder has {list(prompts) or 'none'}")
    return prompts[name]


def _nearest(query, corpus, top_k, block):
    """Indices and cosines of the nearest rows of the corpus, the first of equal ones: `[query, k]`.

    The best so far stand before each block, so the greatest of both are exact and keep their order.
    """
    query = unit(query)
    best = np.zeros([len(query), 0], "float32")
    indices = np.zeros([len(query), 0], int)
    for start in range(0, len(corpus), block):
        scores = query @ unit(corpus[start : start + block]).T  # [query, block]
        here = np.broadcast_to(np.arange(start, start + scores.shape[1]), scores.shape)
        scores = np.concatenate([best, scores], axis=1)
        place = _greatest(scores, min(top_k, scores.shape[1]))
        best = np.take_along_axis(scores, place, axis=1)
        indices = np.take_along_axis(np.concatenate([indices, here], axis=1), place, axis=1)
    return indices, best


def _greatest(scores, count):
    """Columns of the greatest of each row `[rows, columns]`, the first of equal ones first."""
    if count < scores.shape[1]:
        least = np.partition(scores, -count, axis=1)[:, -count, np.newaxis]  # [rows, 1]
        kept = scores >= least
        room = count - (scores > least).sum(axis=1)  # [rows], for those that equal the least
        crowded = np.flatnonzero(kept.sum(axis=1) > count)
        equal = scores[crowded] == least[crowded]
        kept[crowded] &= ~equal | (equal.cumsum(axis=1) <= room[crowded, np.newaxis])
        columns = np.nonzero(kept)[1].reshape(-1, count)
    else:
        columns = np.broadcast_to(np.arange(count), scores.shape)
    order = np.argsort(-np.take_along_axis(scores, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)


def _first_of(prompts, names):
    return next((name for name in names if prompts.get(name)), None)
