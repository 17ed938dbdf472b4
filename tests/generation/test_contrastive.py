"""Contrastive search, against the paper's equation in NumPy."""

import keras
import numpy as np
import pytest

from lingxi.generation import ContrastiveSearch, DecodingOptions
from tests.generation.conftest import compiled, prompts, rows

numpy = keras.ops.convert_to_numpy


def reference(model, tokens, steps, alpha, count, eos_id):
    """Su et al. 2022, equation 5."""
    made = []
    while len(made) < steps and (not made or made[-1] != eos_id):
        outputs = model({"token_ids": np.array([tokens + made], "int32")})
        before = numpy(outputs["sequence_output"])[0]
        logits = numpy(outputs["logits"])[0, -1]
        probability = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        values = {}
        for token in np.argsort(-probability)[:count].tolist():
            outputs = model({"token_ids": np.array([[*tokens, *made, token]], "int32")})
            own = numpy(outputs["sequence_output"])[0, -1]
            cosine = before @ own / np.linalg.norm(before, axis=1) / np.linalg.norm(own)
            values[token] = (1 - alpha) * probability[token] - alpha * cosine.max()
        made.append(max(values, key=values.get))
    return made


@pytest.mark.parametrize(("alpha", "count"), [(0.6, 4), (0.1, 7), (1.0, 2)])
def test_tokens_are_those_of_the_papers_equation(model, alpha, count):
    model = model("gpt")
    inputs = prompts(model, [5, 1, 3])
    options = DecodingOptions(
        max_tokens=7, contrastive_alpha=alpha, top_k=count, eos_id=4, pad_id=0
    )
    made = rows(compiled(ContrastiveSearch(model, options))(inputs))
    for row, (found,) in enumerate(made):
        tokens = inputs["token_ids"][row][inputs["padding_mask"][row]].tolist()
        assert found == reference(model, tokens, 7, alpha, count, eos_id=4)


def test_an_encoder_and_decoder_search_too(model):
    model = model("transformer")
    options = DecodingOptions(max_tokens=6, contrastive_alpha=0.5, top_k=3)
    made = compiled(ContrastiveSearch(model, options))(prompts(model, [4, 2]))
    assert made["token_ids"].shape == (2, 1, 6)
    assert np.isfinite(made["scores"]).all()
