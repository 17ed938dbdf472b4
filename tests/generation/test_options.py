"""Options that contradict each other are errors that say how to mend them."""

import pytest

from lingxi.generation import BeamSearch, DecodingOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": -1}, "max_tokens must be a whole number of at least 0, got -1"),
        ({"max_tokens": 2.5}, "max_tokens must be a whole number"),
        ({"beams": 0}, "beams must be a whole number of at least 1"),
        ({"temperature": -1.0}, "temperature must be at least 0, got -1.0"),
        ({"top_p": 0.0}, "top_p must be more than 0 and at most 1"),
        ({"top_p": 1.5, "temperature": 1.0}, "top_p must be more than 0 and at most 1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be more than 0"),
        ({"top_k": 5}, "set a temperature"),
        ({"top_p": 0.5}, "set a temperature"),
        ({"beams": 2, "temperature": 1.0}, "set beams to 1 to draw"),
        ({"beams": 2, "contrastive_alpha": 0.5, "top_k": 4}, "choose one"),
        ({"contrastive_alpha": 0.5}, "needs top_k of at least 2"),
        ({"num_results": 2}, "needs as many beams or a temperature"),
        ({"beams": 2, "num_results": 3}, "needs as many beams or a temperature"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens=9 is more than max_tokens=8"),
        ({"prefix": (1, 2, 3), "max_tokens": 2}, "prefix has 3 tokens"),
        ({"early_stopping": "soon"}, "early_stopping must be one of"),
        ({"length_penalty_form": "log"}, "length_penalty_form must be one of"),
    ],
)
def test_a_contradiction_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        DecodingOptions(**options)


def test_more_beams_than_tokens_is_an_error(model):
    with pytest.raises(ValueError, match="beams=24 is more than the 23 tokens"):
        BeamSearch(model("gpt"), DecodingOptions(beams=24))
