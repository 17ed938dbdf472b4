"""LoFTR: sizes, matches, masks, blocks, bad input, saving, checkpoints."""

import dataclasses

import keras
import numpy as np
import pytest
import safetensors.numpy

from lingxi.zoo import CheckpointError, Loftr, LoftrConfig

numpy = keras.ops.convert_to_numpy
SIZES = {
    "backbone_dims": (8, 12, 16),
    "num_layers": 1,
    "num_heads": 2,
    "num_fine_heads": 2,
    "border": 1,
    "threshold": 0.0,
}


def randomized(model, seed=0):
    """Every weight random, but no variance below zero."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        if "seed_generator" in weight.path:
            continue
        scale, centre = (0.1, 1.0) if weight.name in ("gamma", "moving_variance") else (0.2, 0.0)
        value = generator.normal(centre, scale, weight.shape)
        weight.assign(np.abs(value) if weight.name == "moving_variance" else value)
    return model


def tiny(seed=0, dtype=None, **sizes):
    return randomized(Loftr(LoftrConfig(**SIZES | sizes), dtype=dtype), seed)


@pytest.fixture(scope="module")
def model():
    return tiny()


def images(height=32, width=40, other=None, batch=2, seed=0):
    """Two nearly equal pictures of noise, or two of different sizes."""
    generator = np.random.default_rng(seed)
    image_a = generator.random((batch, height, width, 1)).astype("float32")
    image_b = generator.random((batch, *(other or (height, width)), 1)).astype("float32")
    return {"image_a": image_a, "image_b": image_b if other else 0.9 * image_a + 0.1 * image_b}


def matches(outputs, example):
    """`{point of a: (point of b, score)}` of one pair."""
    real = numpy(outputs["is_match"])[example]
    a, b, scores = (
        numpy(outputs[name])[example][real] for name in ("points_a", "points_b", "scores")
    )
    return {tuple(p): (q, s) for p, q, s in zip(a.tolist(), b, scores, strict=True)}


# Parameters


def test_the_published_configuration_has_the_published_size():
    assert Loftr.presets["loftr_base"].num_parameters == 11_561_456


@pytest.mark.parametrize(
    "sizes",
    [{}, {"backbone_dims": (4, 8, 12, 16), "num_layers": 2}, {"num_fine_layers": 0}],
    ids=str,
)
def test_the_number_of_parameters_is_counted(sizes):
    model = Loftr(LoftrConfig(**SIZES | sizes))
    trained = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert model.config.num_parameters == trained


def test_a_preset_of_a_size_has_its_parameters():
    model = Loftr.from_preset("loftr_tiny")
    trained = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert trained == Loftr.presets["loftr_tiny"].num_parameters


# Matches


def test_the_outputs_are_named(model):
    outputs = model(images(other=(24, 48)), max_matches=7)
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    assert shapes == {
        "confidence": (2, 20, 18),
        "points_a": (2, 7, 2),
        "points_b": (2, 7, 2),
        "scores": (2, 7),
        "is_match": (2, 7),
    }


def test_matches_are_mutual_neighbours_inside_the_border_best_first(model):
    outputs = model(images())
    confidence = numpy(outputs["confidence"])
    found = 0
    for example in range(2):
        wanted = {}
        for a, row in enumerate(confidence[example]):
            b = int(row.argmax())
            inside = all(0 < c // 5 < 3 and 0 < c % 5 < 4 for c in (a, b))
            if inside and confidence[example, :, b].argmax() == a:
                wanted[a % 5 * 8.0, a // 5 * 8.0] = (b % 5 * 8.0, b // 5 * 8.0), row[b]
        got = matches(outputs, example)
        assert set(got) == set(wanted)
        for point, (place, score) in got.items():
            pixel, confident = wanted[point]
            assert score == pytest.approx(confident)
            assert np.abs(place - pixel).max() <= model.config.window_radius == 4
        found += len(got)
    assert found >= 2
    scores = numpy(outputs["scores"])
    assert (np.diff(scores, axis=1) <= 0).all()
    real = numpy(outputs["is_match"])
    for name in ("points_a", "points_b", "scores"):
        assert not numpy(outputs[name])[~real].any()


def test_a_threshold_leaves_the_surer_matches(model):
    every = matches(model(images()), 0)
    scores = sorted(score for _, score in every.values())
    between = float(scores[0] + scores[-1]) / 2
    sure = matches(model(images(), threshold=between), 0)
    assert set(sure) == {point for point, (_, score) in every.items() if score > between}
    assert not matches(model(images(), threshold=1.0), 0)


def test_without_the_confidence_the_matches_are_the_same(model):
    inputs = images(other=(24, 48))
    whole, blocks = model(inputs), model(inputs, return_confidence=False)
    assert set(whole) - set(blocks) == {"confidence"}
    for name, value in blocks.items():
        np.testing.assert_allclose(numpy(value), numpy(whole[name]), atol=1e-5)


def test_more_matches_than_a_chunk_are_all_refined(model, monkeypatch):
    inputs = images(64, 72)
    whole = model(inputs)
    monkeypatch.setattr("lingxi.zoo.loftr.CHUNK", 3)
    chunks = model(inputs)
    assert numpy(whole["is_match"]).sum(1).max() > 3
    np.testing.assert_allclose(numpy(chunks["points_b"]), numpy(whole["points_b"]), atol=1e-5)


def test_the_refinement_is_that_of_the_parts(model):
    inputs = images()
    features = model.features(inputs)
    cells = np.array([[6, 7, 8], [11, 12, 13]], "int32")
    refined = model.refine(features, cells, cells[:, ::-1])
    assert np.abs(numpy(refined["offset"])).max() <= 4
    assert refined["offset"].shape == (2, 3, 2)
    assert refined["std"].shape == (2, 3)
    assert (numpy(refined["std"]) > 0).all()
    one = model.refine(features, cells[:, 1:2], cells[:, 1:2])  # the same pair among others
    np.testing.assert_allclose(numpy(one["offset"]), numpy(refined["offset"])[:, 1:2], atol=1e-5)
    np.testing.assert_allclose(
        numpy(model.confidence(features)), numpy(model(inputs)["confidence"]), atol=1e-6
    )


def test_a_coarse_model_gives_the_pixels_of_the_cells():
    model = tiny(num_fine_layers=0)
    outputs = model(images())
    points = numpy(outputs["points_b"])[numpy(outputs["is_match"])]
    assert len(points)
    assert not (points % 8).any()
    with pytest.raises(ValueError, match="num_fine_layers=0"):
        model.refine(model.features(images()), np.ones((2, 1), "int32"), np.ones((2, 1), "int32"))


@pytest.mark.parametrize("shape", [(8, 8), (16, 24)], ids=str)
def test_the_smallest_images(shape):
    outputs = tiny()(images(*shape))
    assert all(np.isfinite(numpy(value)).all() for value in outputs.values())


def test_blank_images_have_finite_answers(model):
    blank = {name: np.zeros((1, 64, 64, 1), "float32") for name in ("image_a", "image_b")}
    for value in model(blank).values():
        assert np.isfinite(numpy(value)).all()


# Padding


def test_padding_matches_nothing_and_leaves_a_border(model):
    inputs = images(48, 48)
    mask = np.ones((2, 6, 6), bool)
    mask[0, :, 4:] = mask[0, 5:] = False
    outputs = model(inputs | {"mask_a": mask, "mask_b": np.ones_like(mask)})
    confidence = numpy(outputs["confidence"])
    assert not confidence[0, ~mask[0].reshape(-1)].any()
    found = matches(outputs, 0)
    assert found
    for x, y in found:
        assert 8 <= x <= 16
        assert 8 <= y <= 24


def test_cells_of_the_padding_do_not_influence_the_others(model):
    features = model.features(images(48, 48))
    mask = np.ones((2, 6, 6), bool)
    mask[:, 3:] = False
    flat = mask.reshape(2, 36)
    changed = np.where(flat[..., np.newaxis], numpy(features["coarse_a"]), 3.0).astype("float32")
    first = model.transformer(features["coarse_a"], features["coarse_b"], flat, None)
    second = model.transformer(changed, features["coarse_b"], flat, None)
    np.testing.assert_array_equal(numpy(first[0])[flat], numpy(second[0])[flat])
    np.testing.assert_array_equal(numpy(first[1]), numpy(second[1]))


# Bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_a": np.zeros((2, 32, 40, 3), "float32")}, "accepted: .*, grey"),
        ({"image_a": np.zeros((32, 40, 1), "float32")}, "accepted: .batch, height, width, 1"),
        ({"image_a": np.zeros((2, 30, 40, 1), "float32")}, "30 pixels high .* multiples of 8: pad"),
        ({"image_b": np.zeros((2, 0, 40, 1), "float32")}, "0 pixels high"),
        ({"image_b": np.zeros((2, 32, 40, 1), "uint8")}, "uint8; .*divide bytes by 255"),
        ({"image_b": np.zeros((3, 32, 40, 1), "float32")}, "batch of 2, image_b one of 3"),
        ({"image_b": None}, "no image_b among the inputs"),
        ({"mask_a": np.ones((2, 32, 40), bool)}, r"mask_a .* cells of shape \(2, 4, 5\)"),
        ({"mask_b": np.ones((2, 20), bool)}, "mask_b has shape"),
    ],
    ids=["colour", "no batch", "size", "empty", "bytes", "batches", "missing", "pixels", "flat"],
)
def test_bad_input_says_what_is_accepted(model, changes, message):
    with pytest.raises(ValueError, match=message):
        model(images() | changes)


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="three widths"):
        LoftrConfig(backbone_dims=(8, 16))
    with pytest.raises(ValueError, match="window_size must be odd, got 4"):
        LoftrConfig(window_size=4)


# Training and precision


def test_only_training_changes_the_statistics():
    model = tiny()
    statistic = model.backbone.stem.norm.moving_mean
    before = numpy(statistic).copy()
    model(images())
    np.testing.assert_array_equal(numpy(statistic), before)
    model.features(images(), training=True)
    assert np.abs(numpy(statistic) - before).max() > 1e-4


@pytest.mark.tensorflow_only
def test_a_loss_on_the_parts_reaches_every_weight():
    import tensorflow as tf

    model, inputs = tiny(), images(seed=3)
    cells = np.array([[6, 7], [8, 11]], "int32")
    with tf.GradientTape() as tape:
        features = model.features(inputs, training=True)
        loss = -tf.reduce_mean(tf.linalg.diag_part(model.confidence(features)))
        refined = model.refine(features, cells, cells, training=True)
        loss += tf.reduce_mean(tf.square(refined["offset"] - 1.0) / refined["std"][..., tf.newaxis])
    variables = [weight.value for weight in model.trainable_weights]
    gradients = tape.gradient(loss, variables)
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert np.isfinite(gradient.numpy()).all(), weight.path
        assert np.abs(gradient.numpy()).max() > 1e-9, weight.path


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_near_single_precision(dtype):
    inputs = images()
    half, whole = tiny(dtype=dtype).features(inputs), tiny().features(inputs)
    for name, value in half.items():
        assert keras.backend.standardize_dtype(value.dtype) == dtype.removeprefix("mixed_")
        difference = numpy(value).astype("float32") - numpy(whole[name])
        assert np.abs(difference).max() < 0.1 * np.abs(numpy(whole[name])).max()
    outputs = tiny(dtype=dtype)(inputs)
    assert outputs["points_b"].dtype == outputs["confidence"].dtype == "float32"


@pytest.mark.tensorflow_only
def test_a_graph_of_any_size_gives_the_same_matches(model):
    import tensorflow as tf

    spec = {name: tf.TensorSpec([None, None, None, 1]) for name in ("image_a", "image_b")}
    graph = tf.function(lambda inputs: model(inputs, return_confidence=False), [spec])
    for inputs in (images(), images(24, 32, other=(32, 16), batch=1)):
        got, wanted = graph(inputs), model(inputs)
        for name, value in got.items():
            np.testing.assert_allclose(numpy(value), numpy(wanted[name]), atol=1e-5)


@pytest.mark.slow
@pytest.mark.tensorflow_only
def test_tflite_has_builtin_operations_for_all_of_it(model):
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    inputs = images(other=(24, 48), batch=1)
    module = tf.Module()
    module.kept = [weight.value for weight in model.weights]
    spec = {name: tf.TensorSpec([None, *value.shape[1:]]) for name, value in inputs.items()}
    graph = tf.function(
        lambda image_a, image_b: model({"image_a": image_a, "image_b": image_b}), autograph=False
    ).get_concrete_function(**spec)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], module)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    run = Interpreter(model_content=converter.convert()).get_signature_runner()
    wanted = model(inputs)
    for name, value in run(**inputs).items():
        np.testing.assert_allclose(value, numpy(wanted[name]), atol=1e-3, err_msg=name)


# Saving and checkpoints


def test_a_saved_model_gives_the_same_outputs(model, tmp_path):
    model.save(tmp_path / "loftr.keras")
    loaded = keras.saving.load_model(tmp_path / "loftr.keras")
    assert isinstance(loaded, Loftr)
    assert loaded.config == model.config
    for name, value in model(images()).items():
        np.testing.assert_array_equal(numpy(loaded(images())[name]), numpy(value))


def assert_same(model, other):
    for ours, theirs in zip(model.weights, other.weights, strict=True):
        if "seed_generator" not in ours.path:
            np.testing.assert_array_equal(numpy(ours), numpy(theirs), ours.path)


def tensors_of(model):
    tensors = {}
    for entry in model.checkpoint_table():
        tensors.update(zip(entry.names, entry.split(), strict=True))
    return tensors


def test_a_saved_preset_loads(model, tmp_path):
    model.save_preset(tmp_path / "loftr")
    loaded = Loftr.from_preset(tmp_path / "loftr")
    assert loaded.config == model.config
    assert_same(loaded, model)
    assert Loftr.from_preset(tmp_path / "loftr", load_weights=False).config == model.config


def test_every_variable_has_its_place_in_a_checkpoint(model):
    variables = {id(entry.variable) for entry in model.checkpoint_table()}
    assert variables == {id(w) for w in model.weights if "seed_generator" not in w.path}


def test_tensors_have_the_names_and_axes_of_the_original(model):
    tensors = tensors_of(model)
    shapes = {
        "backbone.conv1.weight": (8, 1, 7, 7),
        "backbone.bn1.running_var": (8,),
        "backbone.layer2.0.downsample.0.weight": (12, 8, 1, 1),
        "backbone.layer3_outconv.weight": (16, 16, 1, 1),
        "backbone.layer1_outconv2.3.weight": (8, 12, 3, 3),
        "loftr_coarse.layers.0.q_proj.weight": (16, 16),
        "loftr_coarse.layers.1.mlp.2.weight": (16, 32),
        "fine_preprocess.merge_feat.weight": (8, 16),
        "loftr_fine.layers.1.norm2.bias": (8,),
    }
    assert {name: tensors[name].shape for name in shapes} == shapes
    kernel = numpy(model.backbone.stages[1][0].first.kernel)  # [height, width, in, out]
    theirs = tensors["backbone.layer2.0.conv1.weight"]
    assert theirs[5, 3, 0, 2] == kernel[0, 2, 3, 5]


def counted(tensors):
    """With the counters that PyTorch keeps."""
    means = [name for name in tensors if name.endswith("running_mean")]
    counters = {name.replace("running_mean", "num_batches_tracked"): np.int64(3) for name in means}
    return tensors | {name: np.array(value) for name, value in counters.items()}


FROM_A_FILE = LoftrConfig(backbone_dims=(16, 24, 32), num_layers=1, num_heads=1, num_fine_heads=1)


@pytest.mark.parametrize(
    "kind", ["safetensors", "npz", pytest.param("ckpt", marks=pytest.mark.parity)]
)
def test_a_file_in_the_layout_of_the_original_loads(kind, tmp_path):
    model = randomized(Loftr(FROM_A_FILE))
    tensors, path = counted(tensors_of(model)), tmp_path / f"loftr.{kind}"
    tensors = {f"matcher.{name}": value for name, value in tensors.items()}
    if kind == "safetensors":
        safetensors.numpy.save_file(tensors, path)
    elif kind == "npz":
        np.savez(path, **tensors)
    else:
        torch = pytest.importorskip("torch")
        state = {name: torch.tensor(value) for name, value in tensors.items()}
        torch.save({"state_dict": state, "epoch": 3}, path)
    loaded = Loftr.from_preset(path)
    assert loaded.config == dataclasses.replace(model.config, precedence_slip=True)
    assert_same(loaded, model)
    assert Loftr.from_preset(path, config=model.config).config == model.config


def test_tensors_that_do_not_fit_are_all_listed(model, tmp_path):
    tensors = tensors_of(model)
    del tensors["loftr_coarse.layers.0.merge.weight"], tensors["backbone.bn1.running_var"]
    tensors["backbone.layer1_outconv.weight"] = np.zeros((12, 8, 3, 3), "float32")
    tensors["head.weight"] = np.zeros(3, "float32")
    safetensors.numpy.save_file(tensors, tmp_path / "loftr.safetensors")
    with pytest.raises(CheckpointError) as error:
        Loftr.from_preset(tmp_path / "loftr.safetensors")
    message = str(error.value)
    for part in ("head.weight", "loftr_coarse.layers.0.merge.weight", "backbone.bn1.running_var"):
        assert part in message
    assert "backbone.layer1_outconv.weight: file (12, 8, 3, 3), model (12, 8, 1, 1)" in message


def test_a_file_of_something_else_says_so(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(CheckpointError, match="does not hold a LoFTR.*1 tensors: a"):
        Loftr.from_preset(tmp_path / "other.npz")
    np.savez(tmp_path / "pickled.npz", a=np.array([{}], dtype=object))
    with pytest.raises(CheckpointError, match="without pickles"):
        Loftr.from_preset(tmp_path / "pickled.npz")
    (tmp_path / "loftr.h5").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"no file of tensors; accepted: .safetensors, .ckpt"):
        Loftr.from_preset(tmp_path / "loftr.h5")


def test_the_real_coarse_checkpoint_loads_by_the_shapes_of_its_tensors(data_path):
    model = Loftr.from_preset(data_path("loftr_coarse/LoFTR_teacher.npz"))
    c = model.config
    assert (c.backbone_dims, c.stride, c.num_layers, c.num_heads) == ((8, 16, 32, 32), 16, 2, 1)
    assert c.num_fine_layers == 0
    names = {name for entry in model.checkpoint_table() for name in entry.names}
    listed = data_path("loftr_coarse/state_dict_keys.txt").read_text().splitlines()
    stored = {line.split("\t")[0] for line in listed}
    assert names == {name for name in stored if not name.endswith("num_batches_tracked")}
