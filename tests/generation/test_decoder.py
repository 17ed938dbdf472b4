"""Greedy decoding and sampling, against a loop that reads everything anew for every token."""

import keras
import numpy as np
import pytest

from lingxi.generation import Decoder, DecodingOptions, decoder
from lingxi.zoo import Gpt
from tests.generation.conftest import MODELS, VOCAB, compiled, prompts, rows

numpy = keras.ops.convert_to_numpy


def logits_after(model, inputs, row, made):
    """float64 `[vocab]` after the tokens `made`, from the whole model without a cache."""
    if isinstance(model, Gpt):
        real = inputs["token_ids"][row][inputs["padding_mask"][row]]
        whole = {"token_ids": np.array([[*real, *made]], "int32")}
    else:
        start = model.config.decoder_start_id
        whole = {name: values[row : row + 1] for name, values in inputs.items()}
        whole["decoder_token_ids"] = np.array([[start, *made]], "int32")
    return numpy(model(whole)["logits"])[0, -1].astype("float64")


def greedy(model, inputs, row, steps, eos_id=None):
    made, total = [], 0.0
    while len(made) < steps and (not made or made[-1] != eos_id):
        logits = logits_after(model, inputs, row, made)
        made.append(int(logits.argmax()))
        total += logits.max() - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
    return made, total


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("name", MODELS)
def test_greedy_decoding_takes_the_most_probable_token(model, name, padding):
    model = model(name)
    inputs = prompts(model, [5, 1, 3], padding)
    options = DecodingOptions(max_tokens=7, eos_id=4, pad_id=0)
    made = compiled(Decoder(model, options))(inputs)
    for row, (found,) in enumerate(rows(made)):
        wanted, score = greedy(model, inputs, row, 7, eos_id=4)
        assert found == wanted
        np.testing.assert_allclose(made["scores"][row, 0], score, atol=1e-4)
        assert (made["token_ids"][row, 0, len(found) :] == 0).all()


def test_the_log_probabilities_are_those_of_the_tokens(model):
    model = model("gpt")
    inputs = prompts(model, [4])
    made = compiled(Decoder(model, DecodingOptions(max_tokens=5)))(inputs)
    tokens = made["token_ids"][0, 0].tolist()
    for index, token in enumerate(tokens):
        logits = logits_after(model, inputs, 0, tokens[:index])
        wanted = logits[token] - np.log(np.exp(logits).sum())
        np.testing.assert_allclose(made["log_probs"][0, 0, index], wanted, atol=1e-5)


def test_fewer_tokens_than_there_is_room_for(model):
    run = compiled(Decoder(model("gpt"), DecodingOptions(max_tokens=9, pad_id=1)))
    whole = run(prompts(model("gpt"), [4, 2]))
    part = compiled(
        lambda inputs: Decoder(model("gpt"), DecodingOptions(max_tokens=9, pad_id=1))(inputs, 4)
    )(prompts(model("gpt"), [4, 2]))
    assert (part["token_ids"][:, :, :4] == whole["token_ids"][:, :, :4]).all()
    assert (part["token_ids"][:, :, 4:] == 1).all()
    assert (part["lengths"] == 4).all()


def sample(model, inputs, uniform, **options):
    decoding = DecodingOptions(max_tokens=uniform.shape[2], **options)
    return compiled(lambda i, u: Decoder(model, decoding)(i, uniform=u))(inputs, uniform)


def test_samples_follow_the_distribution(model):
    model, inputs = model("gpt"), prompts(model("gpt"), [4])
    count = 4000
    uniform = np.random.default_rng(0).random((1, count, 1), "float32")
    found = sample(model, inputs, uniform, temperature=1.5, num_results=count)["token_ids"]
    logits = logits_after(model, inputs, 0, []) / 1.5
    wanted = np.exp(logits) / np.exp(logits).sum()
    share = np.bincount(found.ravel(), minlength=VOCAB) / count
    assert np.abs(share - wanted).max() < 4 * np.sqrt(0.25 / count)


@pytest.mark.parametrize(
    "restriction", [{"top_k": 3}, {"top_p": 0.6}, {"min_p": 0.3}, {"typical_p": 0.5}]
)
def test_restricted_samples_stay_among_the_allowed_tokens(model, restriction):
    model, inputs = model("gpt", seed=3), prompts(model("gpt"), [4])
    count = 500
    uniform = np.random.default_rng(1).random((1, count, 1), "float32")
    options = {"temperature": 2.0, "num_results": count, **restriction}
    found = set(sample(model, inputs, uniform, **options)["token_ids"].ravel().tolist())
    logits = logits_after(model, inputs, 0, []) / 2.0
    p = np.exp(logits - logits.max())
    p /= p.sum()
    order = np.argsort(-p)
    if "top_k" in restriction:
        allowed = order[:3]
    elif "top_p" in restriction:
        allowed = order[: np.searchsorted(np.cumsum(p[order]), 0.6) + 1]
    elif "min_p" in restriction:
        allowed = np.flatnonzero(p >= 0.3 * p.max())
    else:
        entropy = -(p * np.log(p)).sum()
        order = np.argsort(np.abs(-np.log(p) - entropy))
        allowed = order[: np.searchsorted(np.cumsum(p[order]), 0.5) + 1]
    assert 1 <= len(allowed) < VOCAB
    assert found == set(allowed.tolist())


def test_the_same_numbers_draw_the_same_tokens_alone_or_in_a_batch(model):
    model, inputs = model("t5"), prompts(model("t5"), [5, 2, 3])
    uniform = np.random.default_rng(2).random((3, 2, 6), "float32")
    options = {"temperature": 1.0, "top_k": 10, "num_results": 2}
    together = rows(sample(model, inputs, uniform, **options))
    assert together[0][0] != together[0][1]
    for row in range(3):
        length = inputs["encoder_padding_mask"][row].sum()
        alone = {name: values[row : row + 1, :length] for name, values in inputs.items()}
        assert rows(sample(model, alone, uniform[row : row + 1], **options))[0] == together[row]


def test_temperature_zero_at_run_time_is_greedy(model):
    model, inputs = model("gpt"), prompts(model("gpt"), [3, 4])
    options = DecodingOptions(max_tokens=6, temperature=1.0)
    uniform = np.random.default_rng(3).random((2, 1, 6), "float32")
    drawn = compiled(lambda i, t: Decoder(model, options)(i, temperature=t, uniform=uniform))
    wanted = compiled(Decoder(model, DecodingOptions(max_tokens=6)))(inputs)
    assert rows(drawn(inputs, np.float32(0.0))) == rows(wanted)


def test_a_prefix_of_the_decoder_is_read_first(model):
    model = model("transformer")
    inputs = prompts(model, [4])
    start = model.config.decoder_start_id
    free = rows(compiled(Decoder(model, DecodingOptions(max_tokens=8)))(inputs))[0][0]
    given = {**inputs, "decoder_token_ids": np.array([[start, *free[:3]]], "int32")}
    rest = rows(compiled(Decoder(model, DecodingOptions(max_tokens=5)))(given))[0][0]
    assert rest == free[3:]


def test_step_by_step_is_the_same_as_the_loop(model):
    model, inputs = model("bart"), prompts(model("bart"), [4, 2])
    loop = Decoder(model, DecodingOptions(max_tokens=6))
    state, seen = loop.start(inputs), []
    while bool(loop.unfinished(state)):
        state = loop.advance(state)
        seen.append(int(state["step"]))
    assert seen == [2, 3, 4, 5, 6]
    made = {name: numpy(values) for name, values in loop.result(state).items()}
    assert rows(made) == rows(compiled(loop)(inputs))


def test_the_decoder_for_the_options(model):
    kinds = [
        type(decoder(model("gpt"), DecodingOptions(**options))).__name__
        for options in ({}, {"beams": 2}, {"contrastive_alpha": 0.5, "top_k": 4})
    ]
    assert kinds == ["Decoder", "BeamSearch", "ContrastiveSearch"]
