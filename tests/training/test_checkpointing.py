"""Checkpoints on disk: whole or absent, the right ones kept, damage seen."""

import json
import logging
import os
import shutil
import subprocess

import keras
import ml_dtypes
import numpy as np
import pytest

from lingxi.training import Checkpoints
from lingxi.training.checkpoints import DTYPES

TENSORS = {"model/00000": np.arange(6, dtype="float32").reshape(2, 3)}


def state(epoch, step=0, finished=False, **logs):
    settings = {"seed": 10 + epoch}
    return {
        "epoch": epoch,
        "step": step,
        "finished": finished,
        "logs": logs,
        "settings": settings,
    }


def names(checkpoints):
    return sorted(os.listdir(checkpoints.directory))


def test_what_was_written_is_read(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.newest() is None
    assert checkpoints.seed() is None
    tensors = {name: np.array([[0, 1, 3]]).astype(dtype) for name, (_, dtype) in DTYPES.items()} | {
        "empty": np.zeros((0, 4), "float32"),
        "scalar": np.array(7, "int64"),
        "variable": keras.Variable([1.5, 2.5]),
    }
    path = checkpoints.write(state(2, 31, loss=0.1), tensors)
    assert path == tmp_path / "checkpoints" / "0002-00000031"
    found = checkpoints.newest()
    assert (found.path, found.state) == (path, state(2, 31, loss=0.1))
    assert checkpoints.seed() == 12
    for name, tensor in tensors.items():
        wanted = keras.ops.convert_to_numpy(tensor)
        got = found.tensor(name)
        assert got.dtype == wanted.dtype, name
        np.testing.assert_array_equal(got, wanted)


def test_other_programs_read_the_files(tmp_path):
    from safetensors.numpy import load_file

    path = Checkpoints(tmp_path).write(state(1), TENSORS)
    found = load_file(path / "tensors.safetensors")
    np.testing.assert_array_equal(found["model/00000"], TENSORS["model/00000"])
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    if shutil.which(check[0]):
        subprocess.run(check, cwd=path, check=True, capture_output=True)


def test_the_newest_and_the_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for epoch, loss in enumerate([0.9, 0.4, 0.6, float("nan"), 0.4, 0.5], 1):
        checkpoints.write(state(epoch, val_loss=loss), TENSORS)
    assert names(checkpoints) == ["0002-00000000", "0005-00000000", "0006-00000000"]
    checkpoints.write(state(6, 12, val_loss=0.5), TENSORS)
    checkpoints.write(state(6, 24, val_loss=0.5), TENSORS)
    assert names(checkpoints) == ["0002-00000000", "0006-00000012", "0006-00000024"]


def test_the_best_may_be_the_greatest(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, best="val_f1", mode="max")
    for epoch, f1 in enumerate([0.2, 0.8, 0.3], 1):
        checkpoints.write(state(epoch, val_f1=f1), TENSORS)
    assert names(checkpoints) == ["0002-00000000", "0003-00000000"]


def test_a_finished_training_keeps_what_it_could_go_on_from(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    for epoch in (1, 2):
        checkpoints.write(state(epoch), TENSORS)
    checkpoints.write(state(2, finished=True), TENSORS)
    assert names(checkpoints) == ["0002-00000000", "0002-00000000-final"]
    assert checkpoints.newest().state["finished"]
    assert not checkpoints.newest(lambda found: not found.state["finished"]).state["finished"]
    checkpoints.write(state(2, 7), TENSORS)
    assert checkpoints.newest().state["step"] == 7


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: flip(path / "tensors.safetensors"),
        lambda path: flip(path / "state.json"),
        lambda path: flip(path / "SHA256SUMS"),
        lambda path: (path / "tensors.safetensors").unlink(),
        lambda path: (path / "SHA256SUMS").write_text(""),
        lambda path: (path / "tensors.safetensors").write_bytes(b"short"),
    ],
    ids=["tensors", "state", "sums", "no tensors", "no sums", "short"],
)
def test_a_damaged_checkpoint_is_left_out_with_a_warning(tmp_path, damage, caplog):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.write(state(1), TENSORS)
    newest = checkpoints.write(state(2), TENSORS)
    damage(newest)
    with caplog.at_level(logging.WARNING):
        assert checkpoints.newest().state["epoch"] == 1
    assert f"{newest} is damaged" in caplog.text
    damage(checkpoints.directory / "0001-00000000")
    with pytest.raises(ValueError, match="all checkpoints in .* are damaged; remove that"):
        checkpoints.newest()


def test_a_full_disk_leaves_the_others_whole(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.write(state(1), TENSORS)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="0002-00000000: No space left"):
            checkpoints.write(state(2), TENSORS)
    assert names(checkpoints) == ["0001-00000000"]
    assert checkpoints.newest().state["epoch"] == 1


def test_what_a_killed_process_left_is_no_checkpoint_and_is_removed(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.write(state(1), TENSORS)
    shutil.copytree(path, checkpoints.directory / ".0002-00000000.x7f3k" / "0002-00000000")
    (checkpoints.directory / ".0000-00000007").mkdir()
    assert checkpoints.newest().state["epoch"] == 1
    checkpoints.clean()
    assert names(checkpoints) == ["0001-00000000"]


def test_a_model_gets_the_best_or_the_newest_weights(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, use_bias=False)])
    with pytest.raises(FileNotFoundError, match="no checkpoint with 'val_loss'"):
        checkpoints.load(model)
    for epoch, loss in enumerate([0.1, 0.5], 1):
        kernel = np.full((3, 2), epoch, "float32")
        checkpoints.write(state(epoch, val_loss=loss), {"model/00000": kernel})
    for which, value in (("best", 1.0), ("newest", 2.0)):
        assert checkpoints.load(model, which).state["epoch"] == value
        assert (model.get_weights()[0] == value).all()
    wider = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, use_bias=False)])
    with pytest.raises(ValueError, match=r"was float32 \[3, 2\], but is float32 \[4, 2\]"):
        checkpoints.load(wider)
    biased = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="has 1 variables of the model, but there are 2 now"):
        checkpoints.load(biased)


def test_half_precision_is_kept(tmp_path):
    value = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.write(state(1), {"model/00000": value})
    with (path / "tensors.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert header["model/00000"]["dtype"] == "BF16"
    assert checkpoints.newest().tensor("model/00000").tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": 0}, "keep must be at least 1"),
        ({"mode": "best"}, "mode must be 'min' or 'max', got 'best'"),
        ({"every_steps": 0}, "every_steps must be more than 0"),
        ({"every_seconds": -1.0}, "every_seconds must be more than 0"),
    ],
)
def test_bad_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        Checkpoints(tmp_path, **options)
