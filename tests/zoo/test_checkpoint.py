"""Hugging Face checkpoints: every layout that is out there, and every way to be broken."""

import builtins
import dataclasses
import json
import pickle
import re
import sys
import tempfile

import keras
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

import lingxi.zoo
from lingxi.zoo import Bert, CheckpointError, Gpt, GptConfig, checkpoint, google_bert, weight_files
from tests.zoo.conftest import Directory

numpy = keras.ops.convert_to_numpy
WORDS = "embeddings.word_embeddings.weight"


# Layouts


def test_a_directory_loads_as_it_was_written(directory, tiny_bert, assert_same_weights):
    model = Bert.from_preset(directory.path)
    assert model.config == tiny_bert().config
    assert_same_weights(model, tiny_bert())


LAYOUTS = {
    f"{zoo_class.__name__} {model_type}": (zoo_class, layout)
    for zoo_class in vars(lingxi.zoo).values()
    for model_type, layout in getattr(zoo_class, "layouts", {}).items()
}


@st.composite
def configurations(draw, zoo_class, layout):
    """A small model that this layout can express."""
    num_heads, head_dim = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    sizes = {
        "vocab_size": st.integers(3, 7),
        "hidden_dim": st.just(2 * num_heads * head_dim),  # even: sinusoids come in pairs
        "embedding_dim": st.sampled_from([None, 1, 2 * num_heads * head_dim]),
        "backbone_dims": st.just((8, 6, 12)),  # for heads of 1 to 3, and 8 fine ones
        "num_layers": st.integers(0, 2),
        "num_encoder_layers": st.integers(0, 2),
        "num_decoder_layers": st.integers(0, 2),
        "num_heads": st.just(num_heads),
        "decoder_num_heads": st.just(num_heads),
        "head_dim": st.just(2 * head_dim),
        "intermediate_dim": st.integers(1, 5),
        "decoder_intermediate_dim": st.integers(1, 5),
        "max_length": st.integers(1, 5),
        "num_segments": st.integers(1, 3),
        "pooler": st.booleans(),
    }
    own = {field.name for field in dataclasses.fields(zoo_class.config_class)}
    free = own & sizes.keys() & (layout.fields.keys() | {"pooler"} - layout.constants.keys())
    fields = layout.to_fields({"model_type": layout.model_type})
    fields |= {name: draw(sizes[name]) for name in sorted(free)}
    return zoo_class.config_class(**fields)


@pytest.mark.parametrize("name", LAYOUTS)
@settings(max_examples=10 if keras.backend.backend() == "tensorflow" else 2)
@given(data=st.data(), seed=st.integers(0, 99))
def test_saving_and_loading_keeps_every_parameter(name, data, seed):
    zoo_class, layout = LAYOUTS[name]
    config = data.draw(configurations(zoo_class, layout))
    model = zoo_class(config)
    generator = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        weight.assign(generator.normal(size=weight.shape))
    with tempfile.TemporaryDirectory() as folder:
        model.save_preset(folder)
        loaded = zoo_class.from_preset(folder)
    assert layout.to_contents(loaded.config) == layout.to_contents(config)
    assert [w.shape for w in loaded.weights] == [w.shape for w in model.weights]
    for ours, theirs in zip(loaded.trainable_weights, model.trainable_weights, strict=True):
        np.testing.assert_array_equal(numpy(ours), numpy(theirs))


def test_the_table_names_every_weight_once(tiny_bert):
    model = tiny_bert()
    table = model.checkpoint_table()
    assert sorted(entry.variable.path for entry in table) == sorted(
        weight.path for weight in model.trainable_weights
    )
    names = [name for entry in table for name in entry.names]
    assert len(names) == len(set(names)) == 5 + 16 * model.config.num_layers + 2


def test_query_key_and_value_stand_side_by_side(directory):
    attention = Bert.from_preset(directory.path).blocks[1].attention
    prefix = "encoder.layer.1.attention.self"
    parts = [directory.tensors[f"{prefix}.{name}.weight"].T for name in ("query", "key", "value")]
    np.testing.assert_array_equal(
        numpy(attention.query_key_value_dense.kernel), np.concatenate(parts, axis=1)
    )


def test_the_prefix_of_a_model_with_a_head_is_dropped(directory, tiny_bert, assert_same_weights):
    directory.tensors = {f"bert.{name}": value for name, value in directory.tensors.items()}
    directory.tensors["classifier.weight"] = np.zeros((2, 8), "float32")
    directory.tensors["bert.embeddings.position_ids"] = np.arange(10)[np.newaxis]
    directory.tensors["cls.predictions.bias"] = np.zeros(11, "float32")
    directory.write()
    assert_same_weights(Bert.from_preset(directory.path), tiny_bert())


def test_gamma_and_beta_of_old_files(directory, tiny_bert, assert_same_weights):
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    directory.tensors = {
        re.sub(r"LayerNorm\.\w+$", lambda m: old[m[0]], name): value
        for name, value in directory.tensors.items()
    }
    assert "embeddings.LayerNorm.gamma" in directory.tensors
    directory.write()
    assert_same_weights(Bert.from_preset(directory.path), tiny_bert())


@pytest.mark.parametrize("count", [1, 3])
def test_shards_and_their_index(directory, tiny_bert, assert_same_weights, count):
    directory.write_shards(count)
    assert_same_weights(Bert.from_preset(directory.path), tiny_bert())


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float64"], ids=str)
def test_other_precisions_are_read_as_float32(directory, dtype):
    directory.tensors = {name: value.astype(dtype) for name, value in directory.tensors.items()}
    directory.write()
    model = Bert.from_preset(directory.path)
    np.testing.assert_array_equal(
        numpy(model.token_embedding.embeddings), directory.tensors[WORDS].astype("float32")
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_in_half_precision_is_saved_and_loaded(directory, tmp_path, dtype):
    model = Bert.from_preset(directory.path, dtype=dtype)
    copy = Directory(tmp_path / "copy", model)
    loaded = Bert.from_preset(copy.path)
    np.testing.assert_array_equal(
        numpy(loaded.token_embedding.embeddings),
        numpy(model.token_embedding.embeddings).astype("float32"),
    )


def test_without_a_pooler_in_the_file_there_is_none_in_the_model(directory):
    for name in ("pooler.dense.weight", "pooler.dense.bias"):
        del directory.tensors[name]
    directory.write()
    model = Bert.from_preset(directory.path)
    assert model.pooler is None
    assert not model.config.pooler


def test_random_weights_need_no_file(directory):
    (directory.path / checkpoint.WEIGHTS_NAME).unlink()
    model = Bert.from_preset(directory.path, load_weights=False)
    assert model.config.hidden_dim == 8


def test_a_written_file_says_that_it_is_for_pytorch(tiny_bert, tmp_path):
    checkpoint.save(tiny_bert().checkpoint_table(), tmp_path / "x.safetensors")
    with safetensors.safe_open(tmp_path / "x.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}


# Misfits


def test_everything_that_does_not_fit_is_listed_at_once(directory):
    del directory.tensors["pooler.dense.bias"]
    del directory.tensors["encoder.layer.1.output.LayerNorm.bias"]
    directory.tensors["embeddings.LayerNorm.scale"] = np.zeros(8, "float32")
    directory.tensors["encoder.layer.2.output.dense.bias"] = np.zeros(8, "float32")
    directory.tensors[WORDS] = np.zeros((12, 8), "float32")
    directory.tensors["encoder.layer.0.attention.self.key.weight"] = np.zeros((4, 8), "float32")
    directory.write()
    with pytest.raises(CheckpointError) as caught:
        Bert.from_preset(directory.path)
    assert str(caught.value).splitlines() == [
        f"the weights in {directory.path} do not fit this model:",
        "2 tensors unknown in the file:",
        "  embeddings.LayerNorm.scale",
        "  encoder.layer.2.output.dense.bias",
        "2 tensors missing from the file:",
        "  encoder.layer.1.output.LayerNorm.bias",
        "  pooler.dense.bias",
        "2 tensors of another shape:",
        "  embeddings.word_embeddings.weight: file (12, 8), model (11, 8)",
        "  encoder.layer.0.attention.self.key.weight: file (4, 8), model (8, 8)",
        "Check that config.json belongs to these weights.",
    ]


def test_a_misfit_changes_no_weight(directory, tiny_bert, assert_same_weights):
    del directory.tensors["pooler.dense.bias"]
    directory.write()
    model = tiny_bert(seed=1)
    with pytest.raises(CheckpointError):
        checkpoint.load(model.checkpoint_table(), directory.path, "bert.")
    assert_same_weights(model, tiny_bert(seed=1))


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.5, 0.999])
def test_a_truncated_file_is_named_with_its_size(directory, share):
    path = directory.path / checkpoint.WEIGHTS_NAME
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    size = path.stat().st_size
    with pytest.raises(CheckpointError, match=f"{path} is not a whole.* {size} bytes: copy or"):
        Bert.from_preset(directory.path)


def test_a_truncated_shard_is_named(directory):
    shard = directory.write_shards()[1]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=f"{shard} is not a whole safetensors file"):
        Bert.from_preset(directory.path)


def test_a_missing_shard_is_named(directory):
    shard = directory.write_shards()[1]
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=f"index.json names {shard}, which is absent"):
        Bert.from_preset(directory.path)


def test_a_directory_without_weights_says_what_it_holds(directory):
    (directory.path / checkpoint.WEIGHTS_NAME).unlink()
    with pytest.raises(FileNotFoundError, match=r"needs model.safetensors.*holds: config.json"):
        Bert.from_preset(directory.path)


def test_quantized_tensors_are_listed(directory):
    directory.tensors[WORDS] = np.zeros((11, 8), "int8")
    directory.tensors["pooler.dense.bias"] = np.zeros(8, "uint8")
    directory.write()
    wanted = r"2 tensors of a type that is not floating-point.*word_embeddings.weight: I8\n  pooler"
    with pytest.raises(CheckpointError, match=f"(?s){wanted}"):
        Bert.from_preset(directory.path)


@pytest.mark.parametrize("index", ["", "[", "{}"], ids=["empty", "half", "without a map"])
def test_a_damaged_index_is_named(directory, index):
    (directory.path / checkpoint.INDEX_NAME).write_text(index)
    with pytest.raises(CheckpointError, match="model.safetensors.index.json is no index of shards"):
        Bert.from_preset(directory.path)


# Tied tensors


@pytest.mark.parametrize(
    "present",
    [("own",), ("first",), ("second",), ("own", "first"), ("first", "second")],
    ids=" and ".join,
)
def test_a_tied_tensor_has_any_of_its_names(tmp_path, present):
    variable = keras.Variable(np.zeros((2, 3), "float32"))
    table = [checkpoint.Tensors(variable, ("own",), aliases=("first", "second"))]
    value = np.arange(6, dtype="float32").reshape(2, 3)
    tensors = {f"base.{name}": value for name in present}
    safetensors.numpy.save_file(tensors, tmp_path / checkpoint.WEIGHTS_NAME)
    checkpoint.load(table, tmp_path, "base.")
    np.testing.assert_array_equal(numpy(variable), value)


def test_the_head_of_a_gpt_may_be_there_or_not(tmp_path, assert_same_weights):
    model = Gpt(GptConfig(vocab_size=5, hidden_dim=4, num_layers=1, num_heads=2, max_length=3))
    model.save_preset(tmp_path / "gpt")
    path = tmp_path / "gpt" / checkpoint.WEIGHTS_NAME
    tensors = safetensors.numpy.load_file(path)
    tensors = {name.removeprefix("transformer."): value for name, value in tensors.items()}
    tensors["lm_head.weight"] = tensors["wte.weight"]
    tensors["h.0.attn.bias"] = np.tri(3, dtype="float32")
    safetensors.numpy.save_file(tensors, path)
    assert_same_weights(Gpt.from_preset(tmp_path / "gpt"), model)


# PyTorch files


def as_torch(torch, directory, dtype="float32"):
    """The tensors of `directory` for PyTorch; the safetensors are gone."""
    (directory.path / checkpoint.WEIGHTS_NAME).unlink()
    kind = getattr(torch, dtype)
    return {name: torch.tensor(value).to(kind) for name, value in directory.tensors.items()}


def test_a_pytorch_file(torch, directory, tiny_bert, assert_same_weights):
    torch.save(as_torch(torch, directory), directory.path / weight_files.TORCH_NAME)
    assert_same_weights(Bert.from_preset(directory.path), tiny_bert())


def test_a_pytorch_file_is_mapped_anew(
    torch, directory, tiny_bert, assert_same_weights, monkeypatch
):
    monkeypatch.setattr(weight_files, "MAPPED_BYTES", 100)
    torch.save(as_torch(torch, directory), directory.path / weight_files.TORCH_NAME)
    assert_same_weights(Bert.from_preset(directory.path), tiny_bert())


def test_pytorch_shards(torch, directory, tiny_bert, assert_same_weights):
    tensors = as_torch(torch, directory)
    weight_map = {name: f"pytorch_model-{len(name) % 2}.bin" for name in tensors}
    for shard in set(weight_map.values()):
        part = {name: tensors[name] for name in tensors if weight_map[name] == shard}
        torch.save(part, directory.path / shard)
    index = json.dumps({"weight_map": weight_map})
    (directory.path / weight_files.TORCH_INDEX_NAME).write_text(index)
    assert_same_weights(Bert.from_preset(directory.path), tiny_bert())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions_of_pytorch(torch, directory, dtype):
    tensors = as_torch(torch, directory, dtype)
    torch.save(tensors, directory.path / weight_files.TORCH_NAME)
    model = Bert.from_preset(directory.path)
    wanted = tensors[WORDS].float().numpy()
    np.testing.assert_array_equal(numpy(model.token_embedding.embeddings), wanted)


def test_safetensors_go_before_pytorch(directory, tiny_bert, assert_same_weights):
    (directory.path / weight_files.TORCH_NAME).write_bytes(b"never read")
    assert_same_weights(Bert.from_preset(directory.path), tiny_bert())


def test_without_pytorch_its_file_says_what_to_do(directory, monkeypatch):
    (directory.path / checkpoint.WEIGHTS_NAME).unlink()
    (directory.path / weight_files.TORCH_NAME).write_bytes(b"never read")
    original = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "torch":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match="pip install torch to read it, or convert it to safet"):
        Bert.from_preset(directory.path)


class Bomb:
    """Unpickled, it would leave a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("form", ["pickle", "zip", "truncated", "empty", "no tensor"])
def test_a_pytorch_file_runs_no_code(torch, directory, tmp_path, form):
    (directory.path / checkpoint.WEIGHTS_NAME).unlink()
    path = directory.path / weight_files.TORCH_NAME
    if form == "pickle":
        path.write_bytes(pickle.dumps({WORDS: Bomb(tmp_path / "exploded")}))
    elif form == "no tensor":
        torch.save({"epoch": 3}, path)
    else:
        torch.save({WORDS: Bomb(tmp_path / "exploded")}, path)
        path.write_bytes(path.read_bytes()[: {"zip": None, "truncated": 99, "empty": 0}[form]])
    with pytest.raises(CheckpointError, match=f"{path} (is not a whole file of|holds 'epoch')"):
        Bert.from_preset(directory.path)
    assert not (tmp_path / "exploded").exists()


# Google's original checkpoints


@pytest.fixture
def google_directory(tmp_path, tiny_bert):
    """`tiny_bert()` as Google wrote BERT: with a head, and with the optimizer's slots."""
    import tensorflow as tf

    layout = Bert.layouts["bert"]
    model = tiny_bert()
    names = {ours: theirs for theirs, ours in google_bert.names(model.config.num_layers).items()}
    tensors = {"global_step": np.int64(7), "cls/predictions/output_bias": np.zeros(11, "float32")}
    tensors["output_weights"] = np.zeros((2, 8), "float32")
    for entry in model.checkpoint_table():
        for name, value in zip(entry.names, entry.split(), strict=True):
            theirs = names[layout.prefix + name]
            tensors[theirs] = value.T if theirs.endswith("kernel") else value
            tensors |= {f"{theirs}/adam_{slot}": np.zeros_like(tensors[theirs]) for slot in "mv"}
    directory = tmp_path / "google"
    directory.mkdir()
    config = layout.to_contents(model.config)
    for key in ("model_type", "architectures", "layer_norm_eps", "pad_token_id"):
        del config[key]
    (directory / google_bert.CONFIG_NAME).write_text(json.dumps(config))
    tf.raw_ops.SaveV2(
        prefix=str(directory / google_bert.CHECKPOINT_NAME),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )
    return directory


def test_a_checkpoint_of_google(google_directory, tiny_bert, assert_same_weights):
    names = sorted(path.name for path in google_directory.iterdir())
    assert names[1:] == ["bert_model.ckpt.data-00000-of-00001", "bert_model.ckpt.index"]
    model = Bert.from_preset(google_directory)
    assert model.config == tiny_bert().config
    assert_same_weights(model, tiny_bert())


def test_a_checkpoint_of_google_that_does_not_fit_lists_everything(google_directory):
    path = google_directory / google_bert.CONFIG_NAME
    config = json.loads(path.read_text()) | {"vocab_size": 12, "num_hidden_layers": 1}
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError) as caught:
        Bert.from_preset(google_directory)
    assert "16 tensors unknown in the file:" in str(caught.value)
    assert "word_embeddings.weight: file (11, 8), model (12, 8)" in str(caught.value)


def test_a_damaged_checkpoint_of_google_is_named(google_directory):
    index = google_directory / f"{google_bert.CHECKPOINT_NAME}.index"
    index.write_bytes(index.read_bytes()[:20])
    with pytest.raises(CheckpointError, match="bert_model.ckpt is not a whole checkpoint"):
        Bert.from_preset(google_directory)


def test_without_tensorflow_googles_checkpoint_says_what_to_do(google_directory, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError, match="pip install tensorflow to read it, or convert it to"):
        Bert.from_preset(google_directory)


def test_the_table_of_googles_names_is_reversible():
    names = google_bert.names(12)
    assert len(set(names.values())) == len(names) == 5 + 16 * 12 + 2
    assert "bert/encoder/layer_11/attention/self/query/kernel" in names


# Bad input at the model's door


@pytest.mark.parametrize("place", ["numpy", "eager"])
@pytest.mark.parametrize("wrong", [11, -1])
def test_ids_outside_the_vocabulary_are_named(tiny_bert, place, wrong):
    ids = np.array([[1, 2, 3], [4, wrong, 5]])
    if place == "eager":
        if keras.backend.backend() == "jax":
            pytest.skip("values on a JAX device are not looked at")
        ids = keras.ops.convert_to_tensor(ids)
    wanted = rf"token_ids has {wrong} at \(1, 1\), outside the vocabulary of 11 tokens \(0 to 10\)"
    with pytest.raises(ValueError, match=wanted):
        tiny_bert()({"token_ids": ids})


@pytest.mark.parametrize("shape", [(2, 4), (1, 3), (2,), (2, 1, 1, 3)], ids=str)
def test_a_mask_of_another_shape_is_named(tiny_bert, shape):
    wanted = rf"padding_mask has shape {re.escape(str(shape))}, but token_ids has \(2, 3\)"
    with pytest.raises(ValueError, match=wanted):
        tiny_bert()({"token_ids": np.ones((2, 3), "int32"), "padding_mask": np.ones(shape, bool)})


def test_an_unknown_activation_is_named(tiny_bert, tmp_path):
    with pytest.raises(ValueError, match="unknown activation 'swish2'; known: gelu"):
        tiny_bert(activation="swish2")
    model = Gpt(
        GptConfig(
            model_type="openai-gpt",
            vocab_size=5,
            hidden_dim=4,
            num_layers=1,
            num_heads=1,
            norm_first=False,
            activation="tanh",
        )
    )
    with pytest.raises(ValueError, match="'openai-gpt' has no activation 'tanh'; supported: "):
        model.save_preset(tmp_path / "gpt")
