"""Decoding against `transformers.generate`: the same tokens, the same scores."""

import numpy as np
import pytest

from lingxi.generation import DecodingOptions, decoder
from lingxi.zoo import T5, Gpt, Transformer

pytestmark = [
    pytest.mark.parity,
    # Keras warns of a softmax over one key, which is what prompts of one token have.
    pytest.mark.filterwarnings("ignore:You are using a softmax"),
]

VOCAB, STEPS, PROMPTS = 61, 16, 50
_SIZES = {
    "vocab_size": VOCAB,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 48,
}
REFERENCES = {
    # name: (ours, their class, their config's class and arguments)
    "gpt2": (
        Gpt,
        "GPT2LMHeadModel",
        "GPT2Config",
        {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 48},
    ),
    "marian": (
        Transformer,
        "MarianMTModel",
        "MarianConfig",
        {**_SIZES, "pad_token_id": VOCAB - 1, "decoder_start_token_id": VOCAB - 1},
    ),
    "bart": (Transformer, "BartForConditionalGeneration", "BartConfig", _SIZES),
    "t5": (
        T5,
        "T5ForConditionalGeneration",
        "T5Config",
        {
            "vocab_size": VOCAB,
            "d_model": 32,
            "num_layers": 2,
            "num_heads": 4,
            "d_kv": 8,
            "d_ff": 48,
            "decoder_start_token_id": 0,
        },
    ),
}
RULES = {"repetition_penalty": 1.3, "no_repeat_ngram": 3, "min_tokens": 4, "banned": (7, (8, 9))}
SEARCHES = {
    # name: our options; theirs are of other names
    "greedy": {},
    "greedy with rules": RULES,
    "2 beams": {"beams": 2, "num_results": 2},
    "4 beams": {"beams": 4, "num_results": 4},
    "4 beams with rules": {"beams": 4, **RULES, "length_penalty": 0.6},
    "4 beams, early": {"beams": 4, "early_stopping": True, "length_penalty": 2.0},
    "4 beams, never early": {"beams": 4, "early_stopping": "never", "length_penalty": 0.3},
}
THEIR_NAMES = {
    "beams": "num_beams",
    "num_results": "num_return_sequences",
    "no_repeat_ngram": "no_repeat_ngram_size",
    "min_tokens": "min_new_tokens",
}


@pytest.fixture(scope="module")
def models(transformers, tmp_path_factory):
    """A function: the reference of that name with random weights, and ours from its checkpoint."""
    import torch

    made = {}

    def make(name):
        if name not in made:
            torch.manual_seed(0)
            ours, model_class, config_class, sizes = REFERENCES[name]
            ends = {"eos_token_id": 1, "bos_token_id": 2, "forced_eos_token_id": None}
            config = getattr(transformers, config_class)(**sizes, **ends)
            reference = getattr(transformers, model_class)(config).eval()
            with torch.no_grad():
                for parameter in reference.parameters():
                    if parameter.requires_grad:
                        parameter.add_(torch.randn_like(parameter) * 0.25)
            directory = tmp_path_factory.mktemp(name)
            reference.save_pretrained(directory)
            made[name] = reference, ours.from_preset(directory)
        return made[name]

    return make


def theirs(reference, ids, **options):
    """`transformers.generate`, for prompts of one length."""
    import torch

    options = {THEIR_NAMES.get(name, name): value for name, value in options.items()}
    banned = options.pop("banned", ())
    if banned:
        options["bad_words_ids"] = [list(np.atleast_1d(tokens)) for tokens in banned]
    with torch.no_grad():
        return reference.generate(
            input_ids=torch.tensor(ids).long(),
            attention_mask=torch.ones(ids.shape, dtype=torch.long),
            max_new_tokens=STEPS,
            do_sample=False,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
            **options,
        )


@pytest.mark.slow
@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("name", REFERENCES)
def test_tokens_and_scores(name, search, models, assert_near):
    import tensorflow as tf

    reference, model = models(name)
    options = DecodingOptions(max_tokens=STEPS, eos_id=1, pad_id=0, **SEARCHES[search])
    side = "" if name == "gpt2" else "encoder_"
    decode = tf.function(decoder(model, options), autograph=False)

    # Prompts of five lengths in one batch; theirs one length after the other, without padding.
    generator = np.random.default_rng(1)
    lengths = np.repeat([1, 3, 4, 7, 9], PROMPTS // 5)
    mask = np.arange(lengths.max()) < lengths[:, np.newaxis]
    ids = np.where(mask, generator.integers(3, VOCAB - 1, mask.shape), 0).astype("int32")
    made = decode({f"{side}token_ids": ids, f"{side}padding_mask": mask})
    made = {key: values.numpy() for key, values in made.items()}

    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        wanted = theirs(reference, ids[rows, :length], **SEARCHES[search])
        skipped = length if name == "gpt2" else 1
        tokens = wanted.sequences.numpy().reshape(len(rows), options.num_results, -1)[..., skipped:]
        for place, row in enumerate(rows):
            for result in range(options.num_results):
                count = made["lengths"][row, result]
                found = made["token_ids"][row, result, :count]
                np.testing.assert_array_equal(found, tokens[place, result, :count])
                assert set(tokens[place, result, count:].tolist()) <= {0, 1}  # padding or the end
        if options.beams > 1:
            scores = wanted.sequences_scores.numpy().reshape(len(rows), -1)
            assert_near("scores", made["scores"][rows], scores, tolerance=1e-4)
        elif search == "greedy":
            scores = reference.compute_transition_scores(
                wanted.sequences, wanted.scores, normalize_logits=True
            ).numpy()
            real = np.arange(scores.shape[1]) < made["lengths"][rows]
            found = made["log_probs"][rows, 0, : scores.shape[1]]
            assert_near("log-probabilities", found[real], scores[real], tolerance=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 5},
        {"top_p": 0.7},
        {"min_p": 0.2},
        {"typical_p": 0.6},
        {"top_k": 20, "top_p": 0.8, "min_p": 0.05},
    ],
)
def test_what_may_be_drawn(options, models, transformers):
    """Each uniform number is turned into a token; those that come are the ones theirs may draw."""
    import tensorflow as tf
    import torch

    reference, model = models("gpt2")
    count = 3000
    decoding = DecodingOptions(max_tokens=1, temperature=0.8, num_results=count, **options)
    ids = np.array([[5, 9, 4]], "int32")
    uniform = ((np.arange(count) + 0.5) / count).astype("float32").reshape(1, count, 1)
    run = tf.function(lambda: decoder(model, decoding)({"token_ids": ids}, uniform=uniform))
    found = np.bincount(run()["token_ids"].numpy().ravel(), minlength=VOCAB) / count

    config = transformers.GenerationConfig(do_sample=True, temperature=0.8, **options)
    config.top_k = options.get("top_k", 0)
    warpers = reference._get_logits_processor(config)
    with torch.no_grad():
        logits = reference(torch.tensor(ids).long()).logits[:, -1]
        wanted = torch.softmax(warpers(torch.tensor(ids).long(), logits), -1)[0].numpy()
    np.testing.assert_allclose(found, wanted, atol=2 / count)
