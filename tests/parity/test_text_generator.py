"""Generators exchanged with `transformers`: the same logits, continuations and perplexities."""

import dataclasses

import numpy as np
import pytest

from lingxi.tasks import TextGenerator
from lingxi.text import ByteBpeTokenizer
from lingxi.zoo import Gpt, GptConfig

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:You are using a softmax"),
]

PROMPTS = ["the river", "naïve 你好", "What a lovely night, said the actor", "x"]


@pytest.fixture(scope="module")
def generator(data_path):
    """GPT-2's tokens, a small model."""
    import keras

    keras.utils.set_random_seed(0)
    tokenizer = ByteBpeTokenizer.from_directory(data_path("vocab/gpt2"))
    config = GptConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_dim=32,
        num_layers=2,
        num_heads=4,
        max_length=64,
        initializer_range=0.2,
    )
    return TextGenerator(Gpt(config), tokenizer)


@pytest.fixture(scope="module")
def reference(transformers, generator, tmp_path_factory):
    """What `transformers` makes of the directory that `save_preset` writes."""
    directory = tmp_path_factory.mktemp("preset") / "generator"
    generator.save_preset(directory)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory).eval()
    return model, transformers.AutoTokenizer.from_pretrained(directory)


def test_logits(generator, reference, assert_near):
    import torch

    model, tokenizer = reference
    for prompt in PROMPTS:
        inputs = tokenizer(prompt, return_tensors="pt")
        ids = generator.tokenizer([prompt])
        assert ids["token_ids"].numpy().tolist() == inputs["input_ids"].tolist()
        with torch.no_grad():
            theirs = model(**inputs).logits.numpy()
        assert_near("logits", generator(ids), theirs)


@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ({}, {}),
        ({"repetition_penalty": 1.5}, {"repetition_penalty": 1.5}),
        ({"no_repeat_ngram": 2}, {"no_repeat_ngram_size": 2}),
        ({"beams": 3}, {"num_beams": 3}),
    ],
    ids=["greedy", "repetition penalty", "no repeated pairs", "beam search"],
)
def test_continuations(generator, reference, options, theirs):
    model, tokenizer = reference
    found = generator.generate(PROMPTS, max_tokens=24, details=True, **options)
    for prompt, made in zip(PROMPTS, found, strict=True):
        inputs = tokenizer(prompt, return_tensors="pt")
        ids = model.generate(**inputs, max_new_tokens=24, do_sample=False, **theirs)
        wanted = ids[0, inputs["input_ids"].shape[1] :].tolist()
        assert list(made.token_ids) == wanted
        assert made.text == tokenizer.decode(wanted, skip_special_tokens=True)


def test_their_end_token_is_ours(generator, reference):
    model, _ = reference
    assert model.config.eos_token_id == generator.tokenizer.eos_id
    assert model.generation_config.eos_token_id == generator.tokenizer.eos_id


def test_perplexity(generator, reference, assert_near):
    import torch

    model, tokenizer = reference
    for text in PROMPTS:
        ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(text)["input_ids"]]])
        with torch.no_grad():
            loss = float(model(ids, labels=ids).loss)
        (score,) = generator.score([text])
        assert_near("mean log-probability", score.mean, -loss)
        assert generator.perplexity([text]) == pytest.approx(np.exp(loss), rel=1e-4)


def test_a_directory_of_theirs_generates_the_same(transformers, reference, tmp_path):
    model, tokenizer = reference
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = TextGenerator.from_preset(tmp_path)
    ids = model.generate(**tokenizer("the river", return_tensors="pt"), max_new_tokens=9)
    wanted = tokenizer.decode(ids[0, 2:], skip_special_tokens=True)
    assert loaded.generate("the river", max_tokens=9) == wanted
    assert loaded.decoding == dataclasses.replace(loaded.decoding, max_tokens=32)
