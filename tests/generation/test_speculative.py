"""Speculative decoding makes the tokens of greedy decoding, in fewer calls."""

import numpy as np
import pytest

from lingxi.generation import Decoder, DecodingOptions, SpeculativeDecoder
from tests.generation.conftest import VOCAB, compiled, prompts, rows

STEPS = 24


@pytest.mark.parametrize(
    ("name", "drafted", "guesses"),
    [("gpt", True, 4), ("gpt", False, 1), ("t5", True, 1), ("t5", False, 3), ("bart", True, 2)],
)
def test_the_tokens_are_those_of_greedy_decoding(model, name, drafted, guesses):
    target = model(name)
    options = DecodingOptions(max_tokens=STEPS, eos_id=4, pad_id=0)
    draft = model(name, seed=1) if drafted else None
    greedy = compiled(Decoder(target, options))
    speculative = compiled(SpeculativeDecoder(target, options, draft, guesses))
    for length in (1, 2, 6):
        inputs = prompts(target, [length], seed=length)
        wanted, found = greedy(inputs), speculative(inputs)
        assert rows(found) == rows(wanted)
        np.testing.assert_array_equal(found["token_ids"], wanted["token_ids"])
        np.testing.assert_allclose(found["scores"], wanted["scores"], atol=1e-4)
        assert found["calls"] <= found["lengths"][0, 0]


def test_a_perfect_draft_saves_most_calls(model):
    target = model("gpt")
    options = DecodingOptions(max_tokens=25)
    made = compiled(SpeculativeDecoder(target, options, target, guesses=5))(prompts(target, [4]))
    assert made["calls"] == 1 + 24 / 6


def test_what_repeats_is_found_in_the_prompt(model):
    target = model("gpt")
    options = DecodingOptions(max_tokens=STEPS)
    inputs = prompts(target, [4])
    made = rows(compiled(Decoder(target, options))(inputs))[0][0]
    again = {
        "token_ids": np.array([[*inputs["token_ids"][0], *made, *inputs["token_ids"][0]]], "int32")
    }
    found = compiled(SpeculativeDecoder(target, options))(again)
    assert found["calls"] < STEPS


def test_a_stop_table_and_fewer_tokens_are_respected(model):
    target = model("gpt")
    options = DecodingOptions(max_tokens=STEPS, pad_id=0)
    free = rows(compiled(Decoder(target, options))(prompts(target, [4])))[0][0]
    table = np.zeros((2, VOCAB), "int32")
    table[0, free[7]] = table[1] = 1
    stopped = SpeculativeDecoder(target, options, target, stop_table=table)
    found = rows(compiled(stopped)(prompts(target, [4])))[0][0]
    assert found == free[: free.index(free[7]) + 1]
    part = compiled(lambda inputs: SpeculativeDecoder(target, options, target)(inputs, 5))
    assert rows(part(prompts(target, [4])))[0][0] == free[:5]


def test_other_options_and_other_vocabularies_are_errors(model):
    with pytest.raises(ValueError, match="without penalties, bans or beams"):
        SpeculativeDecoder(model("gpt"), DecodingOptions(no_repeat_ngram=2))
    other = model("gpt")
    with pytest.raises(ValueError, match="must share a vocabulary"):
        from lingxi.zoo import Gpt, GptConfig

        small = Gpt(GptConfig(vocab_size=5, hidden_dim=8, num_layers=1, num_heads=1))
        SpeculativeDecoder(other, DecodingOptions(), small)
