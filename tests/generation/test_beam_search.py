"""Beam search, against a search in NumPy over everything."""

import itertools

import numpy as np
import pytest
from keras import ops

from lingxi.generation import BeamSearch, Decoder, DecodingOptions
from lingxi.generation.beam_search import best_of_rows
from tests.generation.conftest import VOCAB, compiled, prompts, rows
from tests.generation.test_decoder import logits_after


def log_probability(model, inputs, row, made):
    total = 0.0
    for index, token in enumerate(made):
        logits = logits_after(model, inputs, row, made[:index])
        total += logits[token] - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
    return total


@pytest.mark.parametrize("name", ["gpt", "transformer"])
def test_as_many_beams_as_tokens_find_the_best_of_all_pairs(model, name):
    model = model(name)
    inputs = prompts(model, [4, 2])
    options = DecodingOptions(
        max_tokens=2, beams=VOCAB, num_results=3, length_penalty=0.0, eos_id=()
    )
    made = compiled(BeamSearch(model, options))(inputs)
    for row, found in enumerate(rows(made)):
        firsts = logits_after(model, inputs, row, [])
        firsts = firsts - np.log(np.exp(firsts).sum())
        scores = {}
        for first in range(VOCAB):
            seconds = logits_after(model, inputs, row, [first])
            seconds = seconds - np.log(np.exp(seconds).sum())
            scores |= {(first, n): firsts[first] + seconds[n] for n in range(VOCAB)}
        best = sorted(scores, key=scores.get, reverse=True)[:3]
        assert [tuple(tokens) for tokens in found] == best
        np.testing.assert_allclose(made["scores"][row], [scores[t] for t in best], atol=1e-4)


@pytest.mark.parametrize(
    ("form", "penalty"),
    [("power", lambda n: n**0.7), ("gnmt", lambda n: ((5 + n) / 6) ** 0.7)],
)
def test_scores_are_divided_by_the_length_penalty(model, form, penalty):
    model = model("t5")
    inputs = prompts(model, [4, 3])
    options = DecodingOptions(
        max_tokens=8,
        beams=4,
        num_results=4,
        length_penalty=0.7,
        length_penalty_form=form,
        eos_id=tuple(range(5, 12)),
        pad_id=0,
    )
    made = compiled(BeamSearch(model, options))(inputs)
    lengths = set(made["lengths"].ravel().tolist())
    assert len(lengths) > 1  # some end early
    for row, found in enumerate(rows(made)):
        assert (np.diff(made["scores"][row]) <= 0).all()
        for index, tokens in enumerate(found):
            wanted = log_probability(model, inputs, row, tokens) / penalty(len(tokens))
            np.testing.assert_allclose(made["scores"][row, index], wanted, atol=1e-4)


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
def test_results_do_not_depend_on_the_rest_of_the_batch(model, early_stopping):
    model = model("bart")
    inputs = prompts(model, [5, 2, 3])
    options = DecodingOptions(
        max_tokens=9, beams=3, num_results=2, early_stopping=early_stopping, eos_id=5, pad_id=0
    )
    together = rows(compiled(BeamSearch(model, options))(inputs))
    for row, length in enumerate([5, 2, 3]):
        alone = {name: values[row : row + 1, :length] for name, values in inputs.items()}
        assert rows(compiled(BeamSearch(model, options))(alone))[0] == together[row]


def test_beams_are_distinct_and_no_worse_than_greedy(model):
    model = model("gpt")
    inputs = prompts(model, [4])
    options = DecodingOptions(max_tokens=6, beams=5, num_results=5, length_penalty=0.0)
    made = compiled(BeamSearch(model, options))(inputs)
    found = rows(made)[0]
    assert all(a != b for a, b in itertools.combinations(found, 2))
    greedy = compiled(Decoder(model, DecodingOptions(max_tokens=6)))(inputs)
    assert made["scores"][0, 0] >= greedy["scores"][0, 0] - 1e-5


@pytest.mark.parametrize("vocab_size", [40, 4096, 5003])
@pytest.mark.parametrize("kinds", [3, 10**6])
def test_the_best_of_long_rows_are_those_of_a_sort(vocab_size, kinds):
    """With few kinds of scores many are equal: then the first ids win."""
    generator = np.random.default_rng(vocab_size)
    scores = generator.integers(kinds, size=(2, 3, vocab_size)).astype("float32")
    scores[0, 0] = -1e30  # all are banned
    values, ids = best_of_rows(ops.convert_to_tensor(scores), 8)
    wanted = np.argsort(-scores, axis=-1, kind="stable")[:, :, :8]
    np.testing.assert_array_equal(ops.convert_to_numpy(ids), wanted)
    wanted = np.take_along_axis(scores, wanted, axis=-1)
    np.testing.assert_array_equal(ops.convert_to_numpy(values), wanted)
