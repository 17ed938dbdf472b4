"""Penalties, bans and forced tokens."""

import itertools

import numpy as np
import pytest

from lingxi.generation import DecodingOptions, decoder
from tests.generation.conftest import VOCAB, compiled, prompts, rows

SEARCHES = {"greedy": {}, "beams": {"beams": 3, "num_results": 3}}


def run(model, search, lengths=(4, 2), **options):
    model = model("gpt")
    options = {"max_tokens": 12, "pad_id": 0, **SEARCHES[search], **options}
    inputs = prompts(model, lengths)
    made = rows(compiled(decoder(model, DecodingOptions(**options)))(inputs))
    real = [
        ids[mask].tolist()
        for ids, mask in zip(inputs["token_ids"], inputs["padding_mask"], strict=True)
    ]
    return real, made


searches = pytest.mark.parametrize("search", SEARCHES)


@searches
@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_ngram_comes_twice_prompt_included(model, search, size):
    prompt, made = run(model, search, no_repeat_ngram=size)
    for before, results in zip(prompt, made, strict=True):
        for result in results:
            whole = [*before, *result]
            grams = [tuple(whole[i : i + size]) for i in range(len(whole) - size + 1)]
            new = grams[max(0, len(before) - size + 1) :]
            assert len(set(new)) == len(new)
            assert not set(new) & set(grams[: max(0, len(before) - size + 1)])


@searches
def test_banned_tokens_and_sequences_never_come(model, search):
    _, free = run(model, search)
    token, pair = free[0][0][0], tuple(free[1][0][3:5])
    _, made = run(model, search, banned=(token, pair))
    for result in itertools.chain(*made):
        assert token not in result
        assert pair not in itertools.pairwise(result)


@searches
def test_a_repetition_penalty_makes_repetitions_rarer(model, search):
    def repeats(made):
        return sum(len(result) - len(set(result)) for results in made for result in results)

    free, penalized = run(model, search)[1], run(model, search, repetition_penalty=5.0)[1]
    assert repeats(penalized) < repeats(free)


@searches
def test_the_end_does_not_come_before_min_tokens(model, search):
    _, free = run(model, search)
    end = free[0][0][1]
    _, made = run(model, search, eos_id=end)
    assert len(made[0][0]) < 12
    _, made = run(model, search, eos_id=end, min_tokens=7)
    assert all(end not in result[:7] for results in made for result in results)


@searches
def test_a_prefix_comes_first_and_the_last_token_last(model, search):
    _, made = run(model, search, prefix=(9, 3), last_token=5)
    assert all(result[:2] == [9, 3] and result[-1] == 5 for results in made for result in results)


def test_a_token_outside_the_vocabulary_is_an_error(model):
    with pytest.raises(ValueError, match=rf"\[{VOCAB}\] are outside the vocabulary of {VOCAB}"):
        decoder(model("gpt"), DecodingOptions(banned=(VOCAB,)))


def test_a_stop_table_ends_a_row(model):
    _, free = run(model, "greedy")
    stop = free[0][0][2]
    table = np.zeros((2, VOCAB), "int32")
    table[0, stop] = table[1] = 1
    options = DecodingOptions(max_tokens=12, pad_id=0)
    made = rows(compiled(decoder(model("gpt"), options, table))(prompts(model("gpt"), (4, 2))))
    for (wanted,), (found,) in zip(free, made, strict=True):
        end = wanted.index(stop) + 1 if stop in wanted else len(wanted)
        assert found == wanted[:end]
