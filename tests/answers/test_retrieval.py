"""Finding the nearest embeddings: exactly, block by block, the first of equal ones first."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingxi.answers.retrieval import search


def directions(count):
    """Embeddings of few different directions, so that many cosines are equal."""
    return st.lists(st.sampled_from([(1, 0), (0, 1), (3, 4), (-1, 0), (0, 0)]), **count).map(
        lambda rows: np.array(rows, "float32").reshape(-1, 2)
    )


@settings(max_examples=200)
@given(
    directions({"min_size": 1, "max_size": 4}),
    directions({"min_size": 1, "max_size": 30}),
    st.integers(1, 12),
    st.integers(1, 9),
)
def test_the_nearest_are_those_of_a_sorted_list(queries, corpus, top_k, block):
    found = search(None, {}, queries, corpus, top_k, block)
    for query, hits in zip(queries, found, strict=True):
        lengths = np.linalg.norm(query) * np.linalg.norm(corpus, axis=1)
        cosines = corpus @ query / np.maximum(lengths, 1e-12)
        wanted = np.argsort(-cosines.round(6), kind="stable")[:top_k]
        assert [hit.index for hit in hits] == wanted.tolist()
        np.testing.assert_allclose([hit.score for hit in hits], cosines[wanted], atol=1e-6)


def test_nothing_is_found_in_an_empty_corpus():
    assert search(None, {}, np.ones(2, "float32"), np.ones((0, 2), "float32"), 3, 8) == []


@pytest.mark.parametrize(("top_k", "block"), [(0, 4), (2, 0)])
def test_fewer_than_one_is_refused(top_k, block):
    with pytest.raises(ValueError, match=f"at least 1, got {top_k} and {block}"):
        search(None, {}, np.ones((1, 2), "float32"), np.ones((1, 2), "float32"), top_k, block)
