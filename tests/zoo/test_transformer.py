"""The Transformer: sizes, masks, positions, step by step, saving, configurations."""

import dataclasses

import keras
import numpy as np
import pytest

from lingxi.zoo import CheckpointError, Transformer, TransformerConfig, checkpoint
from tests.layers.reference import QUICK, gradients

# Keras warns of a softmax over one key, which is what sequences of length 1 have.
pytestmark = pytest.mark.filterwarnings("ignore:You are using a softmax")

numpy = keras.ops.convert_to_numpy
SIZES = {
    "vocab_size": 11,
    "hidden_dim": 8,
    "num_encoder_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 2,
    "intermediate_dim": 12,
    "max_length": 9,
}
VARIANTS = {
    "paper": {},
    "pre-norm": {"norm_first": True, "tie_head": False, "share_embeddings": False},
    "marian": {
        "model_type": "marian",
        "positions": "halves",
        "activation": "silu",
        "logits_bias": True,
        "bos_id": None,
    },
    "marian, two vocabularies": {
        "model_type": "marian",
        "positions": "halves",
        "share_embeddings": False,
        "decoder_vocab_size": 13,
        "decoder_num_heads": 4,
        "decoder_intermediate_dim": 5,
        "initializer_range": 0.02,
    },
    "bart": {
        "model_type": "bart",
        "positions": "learned",
        "position_offset": 2,
        "scale_embeddings": False,
        "embedding_norm": True,
        "activation": "gelu",
        "logits_bias": True,
    },
}
TRIED = ("pre-norm", "bart") if QUICK else tuple(VARIANTS)
each_variant = pytest.mark.parametrize("variant", [VARIANTS[n] for n in TRIED], ids=TRIED)
INPUTS = {
    "encoder_token_ids": np.array([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0]], "int32"),
    "encoder_padding_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], bool),
    "decoder_token_ids": np.array([[1, 5, 8, 9, 7, 2], [1, 3, 2, 3, 0, 0]], "int32"),
    "decoder_padding_mask": np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], bool),
}


def tiny_transformer(seed=0, dtype=None, **sizes):
    """A `Transformer` whose every weight is random."""
    model = Transformer(TransformerConfig(**SIZES | sizes), dtype=dtype)
    generator = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        center = 1.0 if weight.name == "gamma" else 0.0
        weight.assign(generator.normal(center, 0.3, weight.shape))
    return model


def logits(model, **changes):
    return numpy(model({**INPUTS, **changes})["logits"])


# Parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("transformer_base", 63_082_496),
        ("transformer_big", 214_245_376),
        ("marian_base", 73_886_208 + 58_101),
        ("bart_base", 139_420_416),
        ("bart_large", 406_291_456),
    ],
)
def test_a_preset_has_the_size_of_the_published_model(name, parameters):
    assert Transformer.presets[name].num_parameters == parameters


@pytest.mark.parametrize(("name", "millions"), [("transformer_base", 65), ("transformer_big", 213)])
def test_a_preset_has_the_size_in_table_3(name, millions):
    # "about 37000 tokens": the table's two numbers do not agree on a vocabulary.
    assert Transformer.presets[name].num_parameters / 1e6 == pytest.approx(millions, rel=0.03)


@each_variant
def test_the_number_of_parameters_is_counted(variant):
    model = tiny_transformer(**variant)
    assert model.config.num_parameters == model.count_params()


# Inputs and outputs


@each_variant
def test_the_outputs_are_named(variant):
    model = tiny_transformer(**variant)
    outputs = model(INPUTS)
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "encoder_output": (2, 5, 8),
        "sequence_output": (2, 6, 8),
        "logits": (2, 6, model.config.target_vocab_size),
    }
    encoded = {name: INPUTS[name] for name in ("encoder_token_ids", "encoder_padding_mask")}
    np.testing.assert_array_equal(numpy(model.encode(encoded)), numpy(outputs["encoder_output"]))


@each_variant
def test_hidden_states_are_the_embeddings_and_every_block(variant):
    outputs = tiny_transformer(**variant)(INPUTS, return_hidden_states=True)
    for states, last, shapes in (
        ("encoder_hidden_states", "encoder_output", [(2, 5, 8)] * 3),
        ("hidden_states", "sequence_output", [(2, 6, 8)] * 4),
    ):
        assert [tuple(state.shape) for state in outputs[states]] == shapes
        np.testing.assert_array_equal(numpy(outputs[states][-1]), numpy(outputs[last]))


@each_variant
def test_one_token_on_both_sides(variant):
    model = tiny_transformer(**variant)
    ids = np.array([[3]], "int32")
    got = numpy(model({"encoder_token_ids": ids, "decoder_token_ids": ids})["logits"])
    assert got.shape == (1, 1, model.config.target_vocab_size)
    assert np.isfinite(got).all()


def test_a_mask_left_out_is_all_real():
    model = tiny_transformer()
    ids = {name: value for name, value in INPUTS.items() if name.endswith("ids")}
    masks = {name: np.ones_like(value) for name, value in INPUTS.items() if name.endswith("mask")}
    np.testing.assert_allclose(numpy(model(ids)["logits"]), logits(model, **masks), atol=1e-5)


def test_predict_takes_the_dict_of_inputs():
    model = tiny_transformer()
    got = model.predict(INPUTS, batch_size=1, verbose=0)
    np.testing.assert_allclose(got["logits"], logits(model), atol=1e-5)


def test_learned_positions_have_an_end_and_sinusoids_have_none():
    long = np.zeros((1, 10), "int32")
    for side in ("encoder", "decoder"):
        inputs = {**INPUTS, f"{side}_token_ids": long, f"{side}_padding_mask": long == 0}
        if side == "encoder":
            inputs = {name: value[:1] for name, value in inputs.items()}
        with pytest.raises(ValueError, match="has 10 positions, but this model knows only 9"):
            tiny_transformer(**VARIANTS["bart"])(inputs)
    ids = {"encoder_token_ids": long, "decoder_token_ids": long}
    assert tiny_transformer()(ids)["logits"].shape == (1, 10, 11)


def test_each_side_knows_the_ids_of_its_own_vocabulary():
    model = tiny_transformer(**VARIANTS["marian, two vocabularies"])

    def run(encoder_id, decoder_id):
        encoder, decoder = (np.array([[3, token]], "int32") for token in (encoder_id, decoder_id))
        return model({"encoder_token_ids": encoder, "decoder_token_ids": decoder})

    assert run(10, 12)["logits"].shape == (1, 2, 13)
    with pytest.raises(ValueError, match="encoder_token_ids has 12 .* vocabulary of 11 tokens"):
        run(12, 12)
    with pytest.raises(ValueError, match="decoder_token_ids has 13 .* vocabulary of 13 tokens"):
        run(10, 13)


# What may be seen


@each_variant
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_is_not_seen(variant, side):
    model = tiny_transformer(**variant)
    inputs = INPUTS
    if side == "left":
        inputs = {name: value[:, ::-1].copy() for name, value in INPUTS.items()}
    changed = dict(inputs)
    for part in ("encoder", "decoder"):
        mask = inputs[f"{part}_padding_mask"]
        changed[f"{part}_token_ids"] = np.where(mask, inputs[f"{part}_token_ids"], 7)
    mask = inputs["decoder_padding_mask"]
    first, second = logits(model, **inputs), logits(model, **changed)
    np.testing.assert_allclose(first[mask], second[mask], rtol=0, atol=1e-5)
    assert np.abs(first - second).max() > 1e-3  # the padded positions themselves changed


@each_variant
def test_the_decoder_sees_no_later_token(variant):
    model = tiny_transformer(**variant)
    ids = INPUTS["decoder_token_ids"].copy()
    ids[:, 3:] = 4
    first, second = logits(model), logits(model, decoder_token_ids=ids)
    np.testing.assert_allclose(first[:, :3], second[:, :3], rtol=0, atol=1e-5)
    assert np.abs(first[:, 3] - second[:, 3]).max() > 1e-3


@each_variant
def test_every_position_sees_the_whole_source(variant):
    model = tiny_transformer(**variant)
    ids = INPUTS["encoder_token_ids"].copy()
    ids[:, 2] = 10
    difference = np.abs(logits(model) - logits(model, encoder_token_ids=ids)).max(-1)
    assert difference.min() > 1e-6


@pytest.mark.parametrize("positions", ["interleaved", "halves", "learned"])
def test_the_order_of_the_source_matters(positions):
    model = tiny_transformer(positions=positions)
    ids = INPUTS["encoder_token_ids"][:1]
    inputs = {"encoder_token_ids": ids, "decoder_token_ids": INPUTS["decoder_token_ids"][:1]}
    turned = {**inputs, "encoder_token_ids": ids[:, ::-1].copy()}
    assert np.abs(numpy(model(inputs)["logits"]) - numpy(model(turned)["logits"])).max() > 1e-2


def test_sinusoids_are_the_formula_at_far_positions():
    position, i = np.arange(1024)[:, np.newaxis], np.arange(4)
    angle = position / 10000 ** (2 * i / 8)
    sine, cosine = np.sin(angle), np.cos(angle)
    ids = np.zeros((1, 1024), "int32")
    halves = numpy(tiny_transformer(positions="halves").encoder.position_embedding(ids))[0]
    np.testing.assert_allclose(halves, np.concatenate([sine, cosine], -1), atol=2e-6)
    interleaved = numpy(tiny_transformer().encoder.position_embedding(ids))[0]
    np.testing.assert_allclose(interleaved[:, 0::2], sine, atol=2e-6)
    np.testing.assert_allclose(interleaved[:, 1::2], cosine, atol=2e-6)


# Training


class Logits(keras.Model):
    def __init__(self, model):
        super().__init__()
        self.model = model
        self.built = True

    def call(self, inputs):
        return self.model(inputs)["logits"]


@each_variant
def test_gradients_reach_every_weight(variant):
    model = tiny_transformer(**variant)
    found = gradients(Logits(model), INPUTS)
    assert len(found) == len(model.trainable_weights)
    for weight, gradient in zip(model.trainable_weights, found, strict=True):
        assert np.abs(gradient).max() > 1e-7, weight.path


@pytest.mark.parametrize("rate", ["dropout", "attention_dropout", "activation_dropout"])
def test_dropout_acts_only_in_training(rate):
    model = tiny_transformer(**{"dropout": 0.0, rate: 0.5})
    np.testing.assert_array_equal(logits(model), logits(model))
    trained = numpy(model(INPUTS, training=True)["logits"])
    assert np.abs(trained - logits(model)).max() > 0.01


def test_the_initial_weights():
    sizes = {"hidden_dim": 64, "vocab_size": 500}
    glorot = Transformer(TransformerConfig(**SIZES | sizes))
    assert numpy(glorot.token_embedding.embeddings).std() == pytest.approx(1 / 8, rel=0.05)
    kernel = numpy(glorot.decoder.blocks[0].cross_attention.query_dense.kernel)
    assert np.abs(kernel).max() == pytest.approx((6 / 128) ** 0.5, rel=0.05)
    normal = Transformer(TransformerConfig(**SIZES | sizes, initializer_range=0.02))
    assert numpy(normal.token_embedding.embeddings).std() == pytest.approx(0.02, rel=0.05)
    kernel = numpy(normal.decoder.blocks[0].cross_attention.query_dense.kernel)
    assert kernel.std() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "bfloat16"])
def test_half_precision_is_near_single_precision(dtype):
    variant = {**VARIANTS["marian"], "initializer_range": 0.02}
    half = tiny_transformer(dtype=dtype, **variant)(INPUTS)["logits"]
    assert keras.backend.standardize_dtype(half.dtype) == "bfloat16"
    whole = logits(tiny_transformer(**variant))
    np.testing.assert_allclose(numpy(half).astype("float32"), whole, atol=0.3, rtol=0.1)


# Step by step


@each_variant
@pytest.mark.parametrize("first", [1, 3])
def test_a_cached_step_equals_the_whole(variant, first):
    model = tiny_transformer(**variant)
    whole = logits(model, decoder_padding_mask=None)
    ids, mask = INPUTS["decoder_token_ids"], INPUTS["encoder_padding_mask"]
    cache = model.make_cache(model.encode(INPUTS), 8)
    start, steps = 0, []
    for stop in range(first, 7):
        outputs = model(
            {"decoder_token_ids": ids[:, start:stop], "encoder_padding_mask": mask},
            cache=cache,
            cache_index=start,
        )
        assert set(outputs) == {"sequence_output", "logits", "cache"}
        start, cache = stop, outputs["cache"]
        steps.append(numpy(outputs["logits"]))
    np.testing.assert_allclose(np.concatenate(steps, 1), whole, rtol=0, atol=1e-5)


def test_a_cache_holds_the_keys_and_values_of_the_encoder():
    model = tiny_transformer()
    cache = model.make_cache(model.encode(INPUTS), 7)
    assert [sorted(block) for block in cache] == [["cross", "self"]] * 3
    assert [part.shape for part in cache[0]["cross"]] == [(2, 2, 5, 4)] * 2
    assert [part.shape for part in cache[0]["self"]] == [(2, 2, 7, 4)] * 2


def test_cached_steps_with_padding_on_the_left_of_the_decoder():
    model = tiny_transformer()
    inputs = {name: value[:, ::-1].copy() for name, value in INPUTS.items()}
    mask = inputs["decoder_padding_mask"]
    whole = logits(model, **inputs)
    cache = model.make_cache(model.encode(inputs), 6)
    for index in range(6):
        outputs = model(
            {**inputs, "decoder_token_ids": inputs["decoder_token_ids"][:, index : index + 1]},
            cache=cache,
            cache_index=index,
        )
        cache = outputs["cache"]
        real, step = mask[:, index], numpy(outputs["logits"])[:, 0]
        np.testing.assert_allclose(step[real], whole[real, index], rtol=0, atol=1e-5)


# Saving and configurations


@each_variant
def test_a_saved_model_gives_the_same_outputs(variant, tmp_path):
    model = tiny_transformer(**variant)
    model.save(tmp_path / "transformer.keras")
    loaded = keras.saving.load_model(tmp_path / "transformer.keras")
    assert loaded.config == model.config
    np.testing.assert_array_equal(logits(loaded), logits(model))


@pytest.mark.parametrize("name", ["marian", "marian, two vocabularies", "bart"])
def test_a_directory_gives_the_same_model(name, tmp_path):
    model = tiny_transformer(**{"initializer_range": 0.02, **VARIANTS[name]})
    model.save_preset(tmp_path)
    loaded = Transformer.from_preset(tmp_path)
    assert loaded.config == model.config
    np.testing.assert_array_equal(logits(loaded), logits(model))


@pytest.mark.parametrize("name", ["marian_base", "bart_base", "bart_large"])
def test_a_configuration_survives_config_json(name):
    config = Transformer.presets[name]
    layout = Transformer.layouts[config.model_type]
    again = TransformerConfig(**layout.to_fields(layout.to_contents(config)))
    assert dataclasses.replace(again, logits_bias=config.logits_bias) == config


def test_a_short_config_json_means_the_defaults_of_hugging_face():
    for model_type, vocabulary, pad in (("marian", 58101, 58100), ("bart", 50265, 1)):
        config = TransformerConfig(
            **Transformer.layouts[model_type].to_fields({"model_type": model_type})
        )
        assert (config.vocab_size, config.pad_id) == (vocabulary, pad)
        assert (config.hidden_dim, config.num_decoder_layers, config.num_heads) == (1024, 12, 16)
        assert (config.activation, config.scale_embeddings) == ("gelu", False)


def test_tied_tensors_are_found_under_any_of_their_names(tmp_path):
    import safetensors.numpy

    model = tiny_transformer(**VARIANTS["marian"])
    model.save_preset(tmp_path)
    tensors = safetensors.numpy.load_file(tmp_path / checkpoint.WEIGHTS_NAME)
    table = tensors.pop("model.shared.weight")
    for name in ("encoder.embed_tokens", "model.decoder.embed_tokens", "lm_head"):
        path = tmp_path / checkpoint.WEIGHTS_NAME
        safetensors.numpy.save_file({**tensors, f"{name}.weight": table}, path)
        np.testing.assert_array_equal(logits(Transformer.from_preset(tmp_path)), logits(model))
    safetensors.numpy.save_file(tensors, tmp_path / checkpoint.WEIGHTS_NAME)
    with pytest.raises(CheckpointError, match=r"missing from the file:\s+shared.weight"):
        Transformer.from_preset(tmp_path)


def test_the_transformer_of_the_paper_has_no_layout_of_hugging_face(tmp_path):
    with pytest.raises(ValueError, match="Hugging Face has no layout for 'transformer'; it has"):
        tiny_transformer().save_preset(tmp_path / "transformer")
    assert not (tmp_path / "transformer").exists()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("marian", {"positions": "interleaved"}, "model_type 'marian' has positions='halves'"),
        ("marian", {"norm_first": True}, "model_type 'marian' has norm_first=False"),
        ("marian", {"tie_head": False}, "Marian cannot share its embeddings without tying"),
        ("bart", {"position_offset": 0}, "model_type 'bart' has position_offset=2"),
        ("bart", {"tie_head": False}, "BART shares its embeddings and ties its head"),
        ("bart", {"share_embeddings": False}, "BART shares its embeddings and ties its head"),
    ],
)
def test_what_a_layout_cannot_say_is_refused(name, changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        tiny_transformer(**{**VARIANTS[name], **changes}).save_preset(tmp_path)


def test_one_table_has_one_vocabulary():
    with pytest.raises(ValueError, match="got vocab_size=11 and decoder_vocab_size=12"):
        TransformerConfig(**SIZES, decoder_vocab_size=12)
    assert TransformerConfig(**SIZES, decoder_vocab_size=11).decoder_vocab_size is None


def test_unknown_positions_are_refused():
    with pytest.raises(ValueError, match="one of interleaved, halves, learned, got 'rotary'"):
        TransformerConfig(positions="rotary")
