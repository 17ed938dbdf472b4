"""BERT: sizes, inputs and outputs, masks, saving, configurations."""

import dataclasses

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingxi.zoo import Bert, BertConfig
from tests.zoo.conftest import SIZES

# Keras warns of a softmax over one key, which is what sequences of length 1 have.
pytestmark = pytest.mark.filterwarnings("ignore:You are using a softmax")

numpy = keras.ops.convert_to_numpy
IDS = np.array([[2, 5, 9, 3, 0], [2, 7, 3, 0, 0]], "int32")
MASK = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]], bool)
SEGMENTS = np.array([[0, 0, 1, 1, 0], [0, 1, 1, 0, 0]], "int32")


def read(contents):
    """Our config of a config.json's contents."""
    return BertConfig(**Bert.layouts["bert"].to_fields(contents))


def inputs(ids=IDS, mask=MASK, segments=SEGMENTS):
    return {"token_ids": ids, "padding_mask": mask, "segment_ids": segments}


# Parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("bert_tiny", 4_385_920),
        ("bert_mini", 11_170_560),
        ("bert_small", 28_763_648),
        ("bert_medium", 41_373_184),
        ("bert_base", 109_482_240),
        ("bert_large", 335_141_888),
        ("roberta_base", 124_645_632),
        ("roberta_large", 355_359_744),
        ("distilbert_base", 66_362_880),
        ("electra_small", 13_483_008),
        ("electra_base", 108_891_648),
        ("electra_large", 334_092_288),
    ],
)
def test_a_preset_has_the_size_of_the_published_model(name, parameters):
    assert Bert.presets[name].num_parameters == parameters


@pytest.mark.parametrize("name", ["bert_tiny", "bert_mini"])
def test_a_preset_of_a_size_has_its_parameters(name):
    model = Bert.from_preset(name)
    assert model.count_params() == Bert.presets[name].num_parameters


@pytest.mark.parametrize(
    "sizes",
    [
        {"num_layers": 1, "num_heads": 1},
        {"hidden_dim": 9, "num_heads": 3, "intermediate_dim": 7, "num_segments": 3},
        {"pooler": False},
        {"num_layers": 0, "num_segments": 1, "vocab_size": 1},
    ],
    ids=str,
)
def test_the_number_of_parameters_is_counted(tiny_bert, sizes):
    model = tiny_bert(**sizes)
    assert model.config.num_parameters == model.count_params()


# Inputs and outputs


def test_the_outputs_are_named(tiny_bert):
    model = tiny_bert()
    outputs = model(inputs())
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "sequence_output": (2, 5, 8),
        "pooled_output": (2, 8),
    }


def test_without_a_pooler_nothing_is_pooled(tiny_bert):
    assert set(tiny_bert(pooler=False)(inputs())) == {"sequence_output"}


def test_hidden_states_are_the_embeddings_and_every_block(tiny_bert):
    model = tiny_bert()
    outputs = model(inputs(), return_hidden_states=True)
    states = outputs["hidden_states"]
    assert len(states) == model.config.num_layers + 1
    np.testing.assert_array_equal(numpy(states[-1]), numpy(outputs["sequence_output"]))
    again = model.blocks[0](states[0], padding_mask=MASK)
    np.testing.assert_array_equal(numpy(again), numpy(states[1]))


def test_segments_left_out_are_zero(tiny_bert):
    model = tiny_bert()
    short = model({"token_ids": IDS, "padding_mask": MASK})["sequence_output"]
    full = model(inputs(segments=np.zeros_like(IDS)))["sequence_output"]
    np.testing.assert_array_equal(numpy(short), numpy(full))
    assert np.abs(numpy(model(inputs())["sequence_output"]) - numpy(full)).max() > 0.01


def test_a_mask_left_out_is_all_real(tiny_bert):
    model = tiny_bert()
    short = model({"token_ids": IDS})["sequence_output"]
    full = model(inputs(mask=np.ones_like(MASK), segments=np.zeros_like(IDS)))
    np.testing.assert_allclose(numpy(short), numpy(full["sequence_output"]), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (2, 10), (0, 4)], ids=str)
def test_any_batch_size_and_length(tiny_bert, shape):
    outputs = tiny_bert()({"token_ids": np.ones(shape, "int32")})
    assert outputs["sequence_output"].shape == (*shape, 8)
    assert np.isfinite(numpy(outputs["pooled_output"])).all()


def test_too_long_a_sequence_says_how_long_it_may_be(tiny_bert):
    with pytest.raises(ValueError, match="11 positions, but this model knows only 10"):
        tiny_bert()({"token_ids": np.ones((1, 11), "int32")})


def test_too_long_a_sequence_says_so_where_positions_have_an_offset(tiny_bert):
    model = tiny_bert(model_type="roberta", position_offset=2, pad_id=1)
    assert model({"token_ids": np.full((1, 10), 5, "int32")})["sequence_output"].shape == (1, 10, 8)
    for token in (5, model.config.pad_id):
        with pytest.raises(ValueError, match="11 positions, but this model knows only 10; shorten"):
            model({"token_ids": np.full((1, 11), token, "int32")})


def test_padding_has_the_position_before_the_first_where_they_have_an_offset(tiny_bert):
    model = tiny_bert(model_type="roberta", position_offset=2, pad_id=1, num_layers=0)
    ids = np.array([[1, 5, 9, 3, 1], [2, 7, 1, 1, 3]], "int32")
    table = numpy(model.position_embedding.embeddings)
    assert table.shape == (12, 8)
    rows = table[[[1, 2, 3, 4, 1], [2, 3, 1, 1, 4]]]
    segment = numpy(model.segment_embedding.embeddings)[0]
    wanted = model.embedding_norm(numpy(model.token_embedding.embeddings)[ids] + segment + rows)
    got = numpy(model({"token_ids": ids})["sequence_output"])
    np.testing.assert_allclose(got, numpy(wanted), rtol=0, atol=1e-6)


@pytest.mark.tensorflow_only
def test_too_long_a_sequence_raises_in_a_graph_of_any_length(tiny_bert):
    import tensorflow as tf

    model = tiny_bert()
    graph = tf.function(lambda ids: model({"token_ids": ids})["sequence_output"])
    graph = graph.get_concrete_function(tf.TensorSpec([None, None], tf.int32))
    assert graph(tf.ones((1, 10), tf.int32)).shape == (1, 10, 8)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"11.* 10|10.* 11"):
        graph(tf.ones((1, 11), tf.int32))


def test_predict_takes_the_dict_of_inputs(tiny_bert):
    model = tiny_bert()
    got = model.predict(inputs(), batch_size=1, verbose=0)
    wanted = model(inputs())
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], numpy(value), atol=1e-5)


# Padding


@pytest.mark.parametrize("side", ["right", "left"])
def test_padded_tokens_do_not_influence_real_ones(tiny_bert, side):
    model = tiny_bert()
    ids, mask = (IDS, MASK) if side == "right" else (IDS[:, ::-1], MASK[:, ::-1])
    changed = np.where(mask, ids, 7)
    first = numpy(model(inputs(ids, mask))["sequence_output"])
    second = numpy(model(inputs(changed, mask))["sequence_output"])
    np.testing.assert_array_equal(first[mask], second[mask])
    assert np.abs(first - second).max() > 1e-3  # the padded positions themselves changed


def test_padding_on_the_right_equals_the_text_alone(tiny_bert):
    model = tiny_bert()
    padded = model(inputs())
    alone = model(inputs(IDS[1:, :3], MASK[1:, :3], SEGMENTS[1:, :3]))
    for name, real in (("sequence_output", np.s_[1:, :3]), ("pooled_output", np.s_[1:])):
        np.testing.assert_allclose(numpy(padded[name])[real], numpy(alone[name]), atol=2e-6)


# Training and precision


def test_dropout_acts_only_in_training(tiny_bert):
    for rates in ({"dropout": 0.5}, {"dropout": 0.0, "attention_dropout": 0.5}):
        model = tiny_bert(**rates)
        first, second = (numpy(model(inputs())["sequence_output"]) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        trained = numpy(model(inputs(), training=True)["sequence_output"])
        assert np.abs(trained - first).max() > 0.01


def test_the_initial_weights_are_those_of_the_paper():
    model = Bert(BertConfig(**SIZES | {"vocab_size": 500, "hidden_dim": 64}))
    table = numpy(model.token_embedding.embeddings)
    assert abs(table.mean()) < 1e-3
    assert 0.015 < table.std() < 0.02  # cut off at two standard deviations of 0.02
    assert not numpy(model.blocks[0].attention.output_dense.bias).any()
    kernels = [numpy(block.feed_forward.output_dense.kernel) for block in model.blocks]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_half_precision_is_near_single_precision(tiny_bert, dtype):
    half = tiny_bert(dtype=dtype)(inputs())["sequence_output"]
    assert keras.backend.standardize_dtype(half.dtype) == dtype.removeprefix("mixed_")
    whole = numpy(tiny_bert()(inputs())["sequence_output"])
    np.testing.assert_allclose(numpy(half).astype("float32"), whole, atol=0.2, rtol=0.1)


# Saving


def test_a_saved_model_gives_the_same_outputs(tiny_bert, tmp_path):
    model = tiny_bert(activation="relu", num_segments=3, norm_epsilon=1e-3)
    model.save(tmp_path / "bert.keras")
    loaded = keras.saving.load_model(tmp_path / "bert.keras")
    assert isinstance(loaded, Bert)
    assert loaded.config == model.config
    for name, value in model(inputs()).items():
        np.testing.assert_array_equal(numpy(loaded(inputs())[name]), numpy(value))


def test_a_saved_model_keeps_its_precision(tiny_bert, tmp_path):
    tiny_bert(dtype="mixed_bfloat16").save(tmp_path / "bert.keras")
    loaded = keras.saving.load_model(tmp_path / "bert.keras")
    assert loaded.dtype_policy.name == "mixed_bfloat16"
    assert loaded.blocks[0].attention.dtype_policy.name == "mixed_bfloat16"


def test_saved_weights_load(tiny_bert, tmp_path, assert_same_weights):
    model, other = tiny_bert(seed=0), tiny_bert(seed=1)
    model.save_weights(tmp_path / "bert.weights.h5")
    other.load_weights(tmp_path / "bert.weights.h5")
    assert_same_weights(other, model)


def test_a_configuration_makes_an_equal_model(tiny_bert):
    model = tiny_bert(num_layers=1, pooler=False, activation="silu")
    copy = Bert.from_config(model.get_config())
    assert copy.config == model.config
    assert copy.name == model.name
    assert [w.shape for w in copy.weights] == [w.shape for w in model.weights]


# Hugging Face configurations


@settings(max_examples=50)
@given(
    sizes=st.fixed_dictionaries(
        {name: st.integers(1, 2000) for name in SIZES} | {"pad_id": st.integers(0, 10)}
    ),
    rates=st.fixed_dictionaries(
        {name: st.floats(0, 0.9) for name in ("dropout", "attention_dropout")}
    ),
    activation=st.sampled_from(["gelu", "gelu_tanh", "relu", "silu", "tanh"]),
)
def test_a_configuration_survives_config_json(sizes, rates, activation):
    config = BertConfig(**sizes, **rates, activation=activation)
    assert read(Bert.layouts["bert"].to_contents(config)) == config


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("gelu", "gelu"), ("gelu_new", "gelu_tanh"), ("gelu_pytorch_tanh", "gelu_tanh")],
)
def test_activations_by_their_other_names(theirs, ours):
    config = {**Bert.layouts["bert"].to_contents(BertConfig()), "hidden_act": theirs}
    assert read(config).activation == ours


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("position_embedding_type", "relative_key"),
        ("position_embedding_type", "relative_key_query"),
        ("is_decoder", True),
        ("hidden_act", "swiglu"),
    ],
)
def test_another_variant_of_bert_is_refused(key, value):
    config = {**Bert.layouts["bert"].to_contents(BertConfig()), key: value}
    with pytest.raises(ValueError, match=f"config.json has {key}={value!r}; supported: "):
        read(config)


def test_keys_that_bert_does_not_have_are_ignored():
    config = {
        **Bert.layouts["bert"].to_contents(BertConfig()),
        "torch_dtype": "float32",
        "use_cache": True,
    }
    assert read(config) == BertConfig()


def test_a_configuration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        BertConfig().hidden_dim = 3
