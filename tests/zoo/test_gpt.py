"""GPT: sizes, masks, banded attention against NumPy, step by step, saving."""

import dataclasses

import keras
import numpy as np
import pytest

from lingxi.zoo import Gpt, GptConfig
from tests.layers.reference import QUICK, gradients

# Keras warns of a softmax over one key, which is what sequences of length 1 have.
pytestmark = pytest.mark.filterwarnings("ignore:You are using a softmax")

numpy = keras.ops.convert_to_numpy
SIZES = {
    "vocab_size": 11,
    "hidden_dim": 8,
    "num_layers": 3,
    "num_heads": 2,
    "max_length": 9,
}
VARIANTS = {
    "gpt1": {"model_type": "openai-gpt", "norm_first": False},
    "gpt2": {},
    "gpt3": {"model_type": "gpt3", "head_dim": 3, "attention_windows": (None, 2)},
    "gpt_neo": {
        "model_type": "gpt_neo",
        "attention_windows": (None, 3, 3),
        "scale_scores": False,
        "query_key_value_bias": False,
    },
}
TRIED = ("gpt1", "gpt3") if QUICK else tuple(VARIANTS)
each_variant = pytest.mark.parametrize("variant", [VARIANTS[n] for n in TRIED], ids=TRIED)
IDS = np.array([[3, 1, 4, 1, 5, 9, 2], [6, 5, 3, 5, 8, 0, 0]], "int32")
MASK = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]], bool)


def tiny_gpt(seed=0, **sizes):
    """A `Gpt` whose every weight is random."""
    model = Gpt(GptConfig(**SIZES | sizes))
    generator = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        weight.assign(generator.normal(0, 0.5, weight.shape))
    return model


# Parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("gpt1", 116_534_784),
        ("gpt2_small", 124_439_808),
        ("gpt2_medium", 354_823_168),
        ("gpt2_large", 774_030_080),
        ("gpt2_xl", 1_557_611_200),
        ("gpt_neo_125m", 125_198_592),
        ("gpt_neo_1.3b", 1_315_575_808),
        ("gpt_neo_2.7b", 2_651_307_520),
    ],
)
def test_a_preset_has_the_size_of_the_published_model(name, parameters):
    assert Gpt.presets[name].num_parameters == parameters


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("gpt3_small", 125),
        ("gpt3_medium", 350),
        ("gpt3_large", 760),
        ("gpt3_xl", 1_300),
        ("gpt3_2.7b", 2_700),
        ("gpt3_6.7b", 6_700),
        ("gpt3_13b", 13_000),
        ("gpt3_175b", 175_000),
    ],
)
def test_a_preset_of_gpt3_has_the_size_in_table_2_1(name, millions):
    # The table rounds to two or three digits.
    assert Gpt.presets[name].num_parameters / 1e6 == pytest.approx(millions, rel=0.02)


@each_variant
def test_the_number_of_parameters_is_counted(variant):
    model = tiny_gpt(**variant)
    assert model.config.num_parameters == model.count_params()


# Inputs and outputs


@each_variant
def test_the_outputs_are_named(variant):
    outputs = tiny_gpt(**variant)({"token_ids": IDS}, return_hidden_states=True)
    assert outputs["sequence_output"].shape == (2, 7, 8)
    assert outputs["logits"].shape == (2, 7, 11)
    assert [state.shape for state in outputs["hidden_states"]] == [(2, 7, 8)] * 4


@each_variant
def test_a_token_sees_no_later_one(variant):
    model = tiny_gpt(**variant)
    changed = IDS.copy()
    changed[:, 4:] = 7
    logits = [numpy(model({"token_ids": ids})["logits"]) for ids in (IDS, changed)]
    np.testing.assert_allclose(logits[0][:, :4], logits[1][:, :4], rtol=0, atol=1e-6)
    assert np.abs(logits[0][:, 4] - logits[1][:, 4]).max() > 1e-3


@each_variant
def test_padding_on_the_left_is_not_seen(variant):
    model = tiny_gpt(**variant)
    ids, mask = IDS[:, ::-1].copy(), MASK[:, ::-1].copy()
    changed = np.where(mask, ids, 7)
    logits = [
        numpy(model({"token_ids": x, "padding_mask": mask})["logits"]) for x in (ids, changed)
    ]
    np.testing.assert_allclose(logits[0][mask], logits[1][mask], rtol=0, atol=1e-6)


def test_a_sequence_over_the_maximum_is_refused():
    with pytest.raises(ValueError, match="the input has 10 positions, but this model knows only 9"):
        tiny_gpt()({"token_ids": np.zeros((1, 10), "int32")})


class Logits(keras.Model):
    def __init__(self, model):
        super().__init__()
        self.model = model
        self.built = True

    def call(self, inputs):
        return self.model(inputs)["logits"]


@each_variant
def test_gradients_reach_every_weight(variant):
    model = tiny_gpt(**variant)
    found = gradients(Logits(model), {"token_ids": IDS})
    for weight, gradient in zip(model.trainable_weights, found, strict=True):
        assert np.abs(gradient).max() > 1e-6, weight.path


# Banded attention


def reference(model, ids):
    """Brown et al. 2020 in NumPy, float64: dense and banded layers by turns; `[seq, vocab]`."""
    c, w = (
        model.config,
        {v.path.split("/", 1)[1]: numpy(v).astype("float64") for v in model.weights},
    )

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + c.norm_epsilon)
        return x * w[f"{name}/gamma"] + w[f"{name}/beta"]

    def dense(x, name):
        return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]

    positions = np.arange(len(ids))
    x = w["token_embedding/embeddings"][ids] + w["position_embedding/embeddings"][positions]
    for layer in range(c.num_layers):
        block = f"block_{layer}"
        q, k, v = np.split(
            dense(norm(x, f"{block}/attention_norm"), f"{block}/attention/query_key_value"), 3, -1
        )
        window = None if layer % 2 == 0 else c.attention_windows[1]
        mixed = []
        for head in range(c.num_heads):
            part = slice(head * c.head_dim, (head + 1) * c.head_dim)
            rows = []
            for i in positions:
                first = 0 if window is None else max(0, i - window + 1)
                scores = k[first : i + 1, part] @ q[i, part] / np.sqrt(c.head_dim)
                weights = np.exp(scores - scores.max())
                rows.append(weights / weights.sum() @ v[first : i + 1, part])
            mixed.append(np.stack(rows))
        x = x + dense(np.concatenate(mixed, -1), f"{block}/attention/output")
        h = dense(norm(x, f"{block}/feed_forward_norm"), f"{block}/feed_forward/intermediate")
        h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
        x = x + dense(h, f"{block}/feed_forward/output")
    return norm(x, "final_norm") @ w["token_embedding/embeddings"].T


@pytest.mark.parametrize("window", [1, 2, 4, 7, 20])
def test_gpt3_is_the_reference_in_numpy(window):
    model = tiny_gpt(**{**VARIANTS["gpt3"], "attention_windows": (None, window)})
    logits = numpy(model({"token_ids": IDS})["logits"])
    for ids, mine in zip(IDS, logits, strict=True):
        np.testing.assert_allclose(mine, reference(model, ids), rtol=0, atol=1e-5)


# Step by step


@each_variant
@pytest.mark.parametrize("first", [1, 3])
def test_a_cached_step_equals_the_whole(variant, first):
    model = tiny_gpt(**variant)
    whole = numpy(model({"token_ids": IDS})["logits"])
    cache = model.make_cache(2, 9)
    outputs = model({"token_ids": IDS[:, :first]}, cache=cache, cache_index=0)
    steps = [numpy(outputs["logits"])]
    for index in range(first, 7):
        outputs = model(
            {"token_ids": IDS[:, index : index + 1]}, cache=outputs["cache"], cache_index=index
        )
        steps.append(numpy(outputs["logits"]))
    np.testing.assert_allclose(np.concatenate(steps, 1), whole, rtol=0, atol=2e-6)


def test_cached_steps_with_padding_on_the_left_and_given_positions():
    model = tiny_gpt()
    ids = np.array([[0, 0, 3, 1, 4]], "int32")
    wanted = numpy(model({"token_ids": ids[:, 2:]})["logits"])
    mask = np.array([[False, False, True, True, True, True]])
    cache = model.make_cache(1, 6)
    inputs = {
        "token_ids": ids[:, :4],
        "padding_mask": mask,
        "positions": np.array([[0, 0, 0, 1]], "int32"),
    }
    outputs = model(inputs, cache=cache, cache_index=0)
    np.testing.assert_allclose(numpy(outputs["logits"])[:, 2:], wanted[:, :2], rtol=0, atol=2e-6)
    inputs = {
        "token_ids": ids[:, 4:],
        "padding_mask": mask,
        "positions": np.array([[2]], "int32"),
    }
    outputs = model(inputs, cache=outputs["cache"], cache_index=4)
    np.testing.assert_allclose(numpy(outputs["logits"]), wanted[:, 2:], rtol=0, atol=2e-6)


# Saving and configurations


@each_variant
def test_a_saved_model_gives_the_same_outputs(variant, tmp_path):
    model = tiny_gpt(**variant)
    model.save(tmp_path / "gpt.keras")
    loaded = keras.saving.load_model(tmp_path / "gpt.keras")
    assert loaded.config == model.config
    inputs = {"token_ids": IDS, "padding_mask": MASK}
    np.testing.assert_array_equal(numpy(loaded(inputs)["logits"]), numpy(model(inputs)["logits"]))


@pytest.mark.parametrize("name", ["gpt1", "gpt2", "gpt_neo"])
def test_a_directory_gives_the_same_model(name, tmp_path):
    model = tiny_gpt(**VARIANTS[name])
    model.save_preset(tmp_path)
    loaded = Gpt.from_preset(tmp_path)
    assert loaded.config.windows == model.config.windows
    assert dataclasses.replace(
        loaded.config, attention_windows=model.config.attention_windows
    ) == dataclasses.replace(model.config)
    inputs = {"token_ids": IDS, "padding_mask": MASK}
    np.testing.assert_array_equal(numpy(loaded(inputs)["logits"]), numpy(model(inputs)["logits"]))


def test_gpt3_has_no_layout_of_hugging_face(tmp_path):
    with pytest.raises(ValueError, match="Hugging Face has no layout for 'gpt3'; it has for"):
        tiny_gpt(**VARIANTS["gpt3"]).save_preset(tmp_path / "gpt3")
    assert not (tmp_path / "gpt3").exists()


def test_what_a_layout_cannot_say_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"model_type 'gpt2' has attention_windows=\(None,\)"):
        tiny_gpt(attention_windows=(None, 2)).save_preset(tmp_path / "gpt2")
    with pytest.raises(ValueError, match="one window size for all layers"):
        sizes = {**VARIANTS["gpt_neo"], "attention_windows": (2, 3, None)}
        tiny_gpt(**sizes).save_preset(tmp_path / "neo")
    with pytest.raises(ValueError, match="GPT-1 has intermediate_dim = 4"):
        tiny_gpt(**VARIANTS["gpt1"], intermediate_dim=5).save_preset(tmp_path / "gpt1")
