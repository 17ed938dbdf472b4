"""T5: sizes, masks, position biases, step by step, saving, files of every age."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import safetensors.numpy

from lingxi.zoo import T5, CheckpointError, T5Config
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
    "head_dim": 3,
    "intermediate_dim": 7,
    "num_buckets": 4,
    "max_distance": 5,
}
VARIANTS = {
    "t5": {},
    "t5_v1_1": {
        "activation": "gelu_tanh",
        "gated": True,
        "tie_head": False,
        "scale_head": False,
    },
}
TRIED = ("t5_v1_1",) if QUICK else tuple(VARIANTS)
each_variant = pytest.mark.parametrize("variant", [VARIANTS[n] for n in TRIED], ids=TRIED)
IDS = {
    "encoder_token_ids": np.array([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 0, 0]], "int32"),
    "decoder_token_ids": np.array([[0, 3, 5, 8, 9], [0, 7, 9, 3, 2]], "int32"),
}
ENCODER_MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], bool)
DECODER_MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], bool)
MASKED = {**IDS, "encoder_padding_mask": ENCODER_MASK, "decoder_padding_mask": DECODER_MASK}


def tiny_t5(seed=0, dtype=None, **sizes):
    """A `T5` whose every weight is random."""
    model = T5(T5Config(**SIZES | sizes), dtype=dtype)
    generator = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        weight.assign(generator.normal(0, 0.5, weight.shape))
    return model


def logits(model, inputs):
    return numpy(model(inputs)["logits"])


# Parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("t5_small", 60_506_624),
        ("t5_base", 222_903_552),
        ("t5_large", 737_668_096),
        ("t5_3b", 2_851_598_336),
        ("t5_11b", 11_307_321_344),
        ("t5_v1_1_small", 76_961_152),
        ("t5_v1_1_base", 247_577_856),
        ("t5_v1_1_large", 783_150_080),
        ("t5_v1_1_xl", 2_849_757_184),
        ("t5_v1_1_xxl", 11_135_332_352),
    ],
)
def test_a_preset_has_the_size_of_the_published_model(name, parameters):
    assert T5.presets[name].num_parameters == parameters


@each_variant
def test_the_number_of_parameters_is_counted(variant):
    model = tiny_t5(**variant)
    assert model.config.num_parameters == model.count_params()


def test_the_scores_of_a_new_model_are_of_order_one():
    # Without a scale on the scores, queries as wide as keys would make them √head_dim larger.
    keras.utils.set_random_seed(0)
    model = T5(T5Config(**SIZES | {"hidden_dim": 64, "head_dim": 64}))
    width = 2 * 64
    for block in (*model.encoder_blocks, *model.decoder_blocks):
        kernel = numpy(block.attention.query_key_value_dense.kernel)
        parts = np.split(kernel, [width, 2 * width], axis=-1)
        assert [part.std() for part in parts] == pytest.approx([1 / 64, 1 / 8, 1 / 8], rel=0.05)
    for block in model.decoder_blocks:
        assert numpy(block.cross_attention.query_dense.kernel).std() == pytest.approx(
            1 / 64, rel=0.05
        )
        assert numpy(block.cross_attention.key_value_dense.kernel).std() == pytest.approx(
            1 / 8, rel=0.05
        )


# Inputs and outputs


@each_variant
def test_the_outputs_are_named(variant):
    outputs = tiny_t5(**variant)(IDS, return_hidden_states=True)
    assert outputs["encoder_output"].shape == (2, 6, 8)
    assert outputs["sequence_output"].shape == (2, 5, 8)
    assert outputs["logits"].shape == (2, 5, 11)
    assert [state.shape for state in outputs["encoder_hidden_states"]] == [(2, 6, 8)] * 3
    assert [state.shape for state in outputs["hidden_states"]] == [(2, 5, 8)] * 4


@each_variant
def test_masks_may_be_left_out(variant):
    model = tiny_t5(**variant)
    ones = {
        "encoder_padding_mask": np.ones_like(ENCODER_MASK),
        "decoder_padding_mask": np.ones_like(DECODER_MASK),
    }
    np.testing.assert_allclose(
        logits(model, IDS), logits(model, {**IDS, **ones}), rtol=0, atol=1e-6
    )


@each_variant
def test_a_token_sees_no_later_one(variant):
    model = tiny_t5(**variant)
    changed = IDS["decoder_token_ids"].copy()
    changed[:, 3:] = 6
    before, after = logits(model, IDS), logits(model, {**IDS, "decoder_token_ids": changed})
    np.testing.assert_allclose(before[:, :3], after[:, :3], rtol=0, atol=1e-6)
    assert np.abs(before[:, 3] - after[:, 3]).max() > 1e-3


@each_variant
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_padding_is_not_seen(variant, side, stack):
    model = tiny_t5(**variant)
    inputs = dict(MASKED)
    if side == "left":
        inputs = {name: value[:, ::-1].copy() for name, value in inputs.items()}
    ids, mask = inputs[f"{stack}_token_ids"], inputs[f"{stack}_padding_mask"]
    changed = {**inputs, f"{stack}_token_ids": np.where(mask, ids, 10)}
    seen = inputs["decoder_padding_mask"]
    np.testing.assert_allclose(
        logits(model, inputs)[seen], logits(model, changed)[seen], rtol=0, atol=1e-6
    )
    unmasked = {name: value for name, value in changed.items() if name.endswith("ids")}
    assert np.abs(logits(model, inputs)[seen] - logits(model, unmasked)[seen]).max() > 1e-3


def test_padding_on_the_left_changes_nothing():
    # Positions are relative: only the distances between tokens count.
    model = tiny_t5()
    padded = {}
    for name, value in IDS.items():
        padded[name] = np.pad(value, ((0, 0), (2, 0)))
        mask = np.pad(np.ones_like(value, bool), ((0, 0), (2, 0)))
        padded[name.replace("token_ids", "padding_mask")] = mask
    np.testing.assert_allclose(logits(model, padded)[:, 2:], logits(model, IDS), rtol=0, atol=2e-6)


@each_variant
def test_a_sequence_of_one_token(variant):
    inputs = {name: value[:, :1] for name, value in IDS.items()}
    outputs = tiny_t5(**variant)(inputs)
    assert outputs["logits"].shape == (2, 1, 11)
    assert np.isfinite(numpy(outputs["logits"])).all()


def test_ids_outside_the_vocabulary_are_refused():
    ids = np.array([[0, 11]], "int32")
    with pytest.raises(ValueError, match="decoder_token_ids has 11 at"):
        tiny_t5()({**IDS, "decoder_token_ids": ids})


class Logits(keras.Model):
    def __init__(self, model):
        super().__init__()
        self.model = model
        self.built = True

    def call(self, inputs):
        return self.model(inputs)["logits"]


@each_variant
def test_gradients_reach_every_weight(variant):
    model = tiny_t5(**variant)
    found = gradients(Logits(model), IDS)
    for weight, gradient in zip(model.trainable_weights, found, strict=True):
        assert np.abs(gradient).max() > 1e-6, weight.path


def test_dropout_works_only_while_training():
    model = tiny_t5(dropout=0.5)
    np.testing.assert_array_equal(logits(model, IDS), logits(model, IDS))
    runs = [numpy(model(IDS, training=True)["logits"]) for _ in range(2)]
    assert np.abs(runs[0] - runs[1]).max() > 1e-3


@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16", "mixed_float16"])
def test_lower_precision(dtype):
    model, wanted = tiny_t5(dtype=dtype), logits(tiny_t5(), MASKED)
    got = numpy(keras.ops.cast(model(MASKED)["logits"], "float32"))
    np.testing.assert_allclose(got[DECODER_MASK], wanted[DECODER_MASK], rtol=0, atol=0.3)


# Position biases


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_all_layers_share_the_position_bias_of_self_attention(stack):
    model = tiny_t5()
    bias = getattr(model, f"{stack}_position_bias").embeddings
    before = model(IDS, return_hidden_states=True)
    bias.assign(numpy(bias) * -2.0)
    after = model(IDS, return_hidden_states=True)
    for name in ("encoder_hidden_states", "hidden_states"):
        for layer, (old, new) in enumerate(zip(before[name], after[name], strict=True)):
            same = layer == 0 or (stack == "decoder" and name == "encoder_hidden_states")
            assert (np.abs(numpy(old) - numpy(new)).max() == 0) == same
    # A constant on all scores of a query does nothing.
    bias.assign(np.ones(bias.shape))
    ones = logits(model, IDS)
    bias.assign(np.zeros(bias.shape))
    np.testing.assert_allclose(logits(model, IDS), ones, rtol=0, atol=1e-5)


# Step by step


@each_variant
@pytest.mark.parametrize("first", [1, 3])
def test_a_cached_step_equals_the_whole(variant, first):
    model = tiny_t5(**variant)
    inputs = {**IDS, "encoder_padding_mask": ENCODER_MASK}
    whole = model(inputs)
    encoder_output = model.encode(inputs)
    np.testing.assert_array_equal(numpy(encoder_output), numpy(whole["encoder_output"]))
    cache, steps = model.make_cache(encoder_output, 9), []
    for start, end in [(0, first), *((index, index + 1) for index in range(first, 5))]:
        outputs = model(
            {
                "decoder_token_ids": IDS["decoder_token_ids"][:, start:end],
                "encoder_padding_mask": ENCODER_MASK,
            },
            cache=cache,
            cache_index=start,
        )
        assert set(outputs) == {"sequence_output", "logits", "cache"}
        cache = outputs["cache"]
        steps.append(numpy(outputs["logits"]))
    np.testing.assert_allclose(np.concatenate(steps, 1), numpy(whole["logits"]), rtol=0, atol=5e-6)


def test_cached_steps_with_padding_on_the_left():
    model = tiny_t5()
    wanted = logits(model, IDS)
    ids = np.pad(IDS["decoder_token_ids"], ((0, 0), (2, 0)))
    mask = np.arange(8) >= 2
    mask = np.stack([mask, mask])
    cache = model.make_cache(model.encode(IDS), 8)
    steps = []
    for start, end in ((0, 4), (4, 5), (5, 7)):
        outputs = model(
            {"decoder_token_ids": ids[:, start:end], "decoder_padding_mask": mask},
            cache=cache,
            cache_index=start,
        )
        cache = outputs["cache"]
        steps.append(numpy(outputs["logits"]))
    np.testing.assert_allclose(np.concatenate(steps, 1)[:, 2:], wanted, rtol=0, atol=5e-6)


def test_the_cache_holds_the_keys_and_values_of_the_encoder():
    model = tiny_t5()
    cache = model.make_cache(model.encode(IDS), 9)
    shapes = [{name: [part.shape for part in pair] for name, pair in c.items()} for c in cache]
    assert shapes == [{"self": [(2, 2, 9, 3)] * 2, "cross": [(2, 2, 6, 3)] * 2}] * 3


@pytest.mark.tensorflow_only
def test_a_traced_step_serves_every_position_and_length():
    import tensorflow as tf

    model = tiny_t5()

    @tf.function(reduce_retracing=True)
    def step(ids, cache, index):
        outputs = model({"decoder_token_ids": ids}, cache=cache, cache_index=index)
        return outputs["logits"], outputs["cache"]

    whole, ids = logits(model, IDS), IDS["decoder_token_ids"]
    cache = model.make_cache(model.encode(IDS), 5)
    for index in range(5):
        got, cache = step(tf.constant(ids[:, index : index + 1]), cache, tf.constant(index))
        np.testing.assert_allclose(got.numpy()[:, 0], whole[:, index], rtol=0, atol=5e-6)
    assert step.experimental_get_tracing_count() == 1

    spec = tf.TensorSpec((None, None), tf.int32)
    graph = tf.function(lambda a, b: model({"encoder_token_ids": a, "decoder_token_ids": b}))
    graph = graph.get_concrete_function(spec, spec)
    got = graph(*map(tf.constant, IDS.values()))["logits"]
    np.testing.assert_allclose(got.numpy(), whole, rtol=0, atol=5e-6)


# Saving and configurations


@each_variant
def test_a_saved_model_gives_the_same_outputs(variant, tmp_path):
    model = tiny_t5(**variant)
    model.save(tmp_path / "t5.keras")
    loaded = keras.saving.load_model(tmp_path / "t5.keras")
    assert loaded.config == model.config
    np.testing.assert_array_equal(logits(loaded, MASKED), logits(model, MASKED))


@each_variant
@pytest.mark.parametrize(
    "others",
    [
        {},
        {"tie_head": True, "scale_head": False},
        {"tie_head": False, "scale_head": True},
        {"activation": "gelu", "pad_id": 3, "eos_id": 4, "decoder_start_id": 5, "dropout": 0.0},
        {"activation": "silu", "norm_epsilon": 1e-5},
        {"activation": "gelu_tanh"},
    ],
)
def test_a_directory_gives_the_same_model(variant, others, tmp_path):
    model = tiny_t5(**variant | others)
    model.save_preset(tmp_path)
    loaded = T5.from_preset(tmp_path)
    assert loaded.config == model.config
    np.testing.assert_array_equal(logits(loaded, MASKED), logits(model, MASKED))
    assert T5.from_preset(tmp_path, load_weights=False).config == model.config


# What Hugging Face's files of the years say

_ORIGINAL = {"model_type": "t5", "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6}


@pytest.mark.parametrize(
    ("contents", "wanted"),
    [
        ({}, {}),
        ({"num_decoder_layers": 2}, {"num_decoder_layers": 2}),
        ({"num_layers": 3}, {"num_encoder_layers": 3, "num_decoder_layers": 3}),
        ({"pad_token_id": None, "decoder_start_token_id": 7}, {"decoder_start_id": 7}),
        (
            {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
            VARIANTS["t5_v1_1"],
        ),
        (
            # transformers 5 says that the head is tied whether it is or not
            {
                "feed_forward_proj": "gated-gelu",
                "dense_act_fn": "gelu_new",
                "tie_word_embeddings": True,
                "scale_decoder_outputs": False,
            },
            {**VARIANTS["t5_v1_1"], "tie_head": True},
        ),
        ({"feed_forward_proj": "gated-silu"}, {"gated": True, "activation": "silu"}),
        ({"feed_forward_proj": "gelu"}, {"activation": "gelu"}),
    ],
)
def test_a_config_of_hugging_face(contents, wanted):
    fields = T5.layouts["t5"].to_fields({**_ORIGINAL, **contents})
    assert T5Config(**fields) == dataclasses.replace(T5Config(), **wanted)


@pytest.mark.parametrize("projection", ["gated-swiglu", "half-gated-gelu", "glu-relu"])
def test_an_unknown_feed_forward_network_is_refused(projection):
    with pytest.raises(ValueError, match=f"feed_forward_proj='{projection}'; supported: gelu"):
        T5.layouts["t5"].to_fields({**_ORIGINAL, "feed_forward_proj": projection})


@pytest.fixture
def rewrite(tmp_path):
    """A function: the directory of a model, its tensors changed by a function."""

    def write(model, change):
        model.save_preset(tmp_path)
        path = tmp_path / "model.safetensors"
        tensors = safetensors.numpy.load_file(path)
        change(tensors)
        safetensors.numpy.save_file(tensors, path)
        return tmp_path

    return write


TIED = [
    "shared.weight",
    "encoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
    "lm_head.weight",
]


@pytest.mark.parametrize("names", [*([name] for name in TIED), TIED, TIED[1:]])
def test_tied_embeddings_by_any_name(names, rewrite):
    model = tiny_t5()

    def change(tensors):
        table = tensors.pop("shared.weight")
        tensors.update({name: table.copy() for name in names})

    loaded = T5.from_preset(rewrite(model, change))
    assert loaded.config == model.config
    np.testing.assert_array_equal(logits(loaded, IDS), logits(model, IDS))


def test_a_head_of_its_own_though_config_json_calls_it_tied(rewrite):
    model = tiny_t5(**VARIANTS["t5_v1_1"])
    directory = rewrite(model, lambda tensors: None)
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": True}))
    loaded = T5.from_preset(directory)
    assert loaded.config == model.config
    np.testing.assert_array_equal(logits(loaded, IDS), logits(model, IDS))


def test_a_table_that_no_layer_reads_is_ignored(rewrite):
    model = tiny_t5()

    def change(tensors):
        name = "decoder.block.0.layer.{}.{}Attention.relative_attention_bias.weight"
        tensors[name.format(1, "EncDec")] = tensors[name.format(0, "Self")].copy()

    loaded = T5.from_preset(rewrite(model, change))
    np.testing.assert_array_equal(logits(loaded, IDS), logits(model, IDS))


def test_what_does_not_fit_is_listed(rewrite):
    def change(tensors):
        del tensors["encoder.block.1.layer.1.DenseReluDense.wi.weight"]
        tensors["decoder.block.0.layer.0.SelfAttention.q.bias"] = np.zeros(6, "float32")

    with pytest.raises(CheckpointError) as error:
        T5.from_preset(rewrite(tiny_t5(), change))
    assert "encoder.block.1.layer.1.DenseReluDense.wi.weight" in str(error.value)
    assert "decoder.block.0.layer.0.SelfAttention.q.bias" in str(error.value)


@pytest.mark.slow
@pytest.mark.skipif(QUICK, reason="compiles for minutes")
def test_it_learns_to_copy():
    keras.utils.set_random_seed(0)
    model = T5(T5Config(**SIZES | {"hidden_dim": 32, "head_dim": 16, "dropout": 0.0}))
    random = np.random.default_rng(0)
    ids = random.integers(2, 11, (64, 4)).astype("int32")
    inputs = {"encoder_token_ids": ids, "decoder_token_ids": np.pad(ids, ((0, 0), (1, 0)))[:, :-1]}
    trained = Logits(model)
    trained.compile(
        keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    trained.fit(inputs, ids, batch_size=64, epochs=60, verbose=0)
    assert (logits(model, inputs).argmax(-1) == ids).mean() > 0.9
