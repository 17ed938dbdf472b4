"""Hugging Face checkpoints: every layout that is out there, and every way to be broken."""

import json
import re
import tempfile
from pathlib import Path

import keras
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from lingxi.zoo import Bert, BertConfig, CheckpointError, checkpoint
from tests.zoo.conftest import Directory

numpy = keras.ops.convert_to_numpy
WORDS = "embeddings.word_embeddings.weight"


# Layouts


def test_a_directory_loads_as_it_was_written(directory, tiny_bert, assert_same_weights):
    model = Bert.from_preset(directory.path)
    assert model.config == tiny_bert().config
    assert_same_weights(model, tiny_bert())


@settings(max_examples=10 if keras.backend.backend() == "tensorflow" else 2)
@given(
    heads=st.integers(1, 3),
    head_dim=st.integers(1, 3),
    seed=st.integers(0, 99),
    sizes=st.fixed_dictionaries(
        {
            "vocab_size": st.integers(1, 7),
            "num_layers": st.integers(0, 2),
            "intermediate_dim": st.integers(1, 5),
            "max_length": st.integers(1, 5),
            "num_segments": st.integers(1, 3),
            "pooler": st.booleans(),
        }
    ),
)
def test_saving_and_loading_keeps_every_parameter(heads, head_dim, seed, sizes):
    config = BertConfig(num_heads=heads, hidden_dim=heads * head_dim, **sizes)
    model = Bert(config)
    generator = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        weight.assign(generator.normal(size=weight.shape))
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        (directory / "config.json").write_text(json.dumps(Bert.layouts["bert"].to_contents(config)))
        checkpoint.save(model.checkpoint_table(), directory / checkpoint.WEIGHTS_NAME)
        loaded = Bert.from_preset(directory)
    assert loaded.config == config
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


def test_a_pickle_is_never_read(directory):
    (directory.path / checkpoint.WEIGHTS_NAME).unlink()
    bomb = b"cbuiltins\nexec\n(S'raise SystemExit(\"unpickled\")'\ntR."
    (directory.path / "pytorch_model.bin").write_bytes(bomb)
    with pytest.raises(FileNotFoundError, match=r"needs model.safetensors.*pytorch_model.bin"):
        Bert.from_preset(directory.path)
