"""The number format to train in depends on what the machine multiplies in."""

import keras
import pytest
import tensorflow as tf

from lingxi.training import fastest_precision, precision


@pytest.fixture
def machine(monkeypatch):
    """A function: let TensorFlow see these GPUs, and this module such a CPU."""

    def make(flags="", capabilities=()):
        info = f"processor\t: 0\nflags\t\t: fpu sse2 {flags}\n"
        monkeypatch.setattr(precision.pathlib.Path, "read_text", lambda path: info)
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(capabilities))
        monkeypatch.setattr(
            tf.config.experimental, "get_device_details", lambda gpu: {"compute_capability": gpu}
        )

    return make


@pytest.mark.tensorflow_only
@pytest.mark.parametrize(
    ("flags", "capabilities", "wanted"),
    [
        ("avx512f", [], "float32"),
        ("avx512f avx512_bf16", [], "mixed_bfloat16"),
        ("amx_tile amx_bf16", [], "mixed_bfloat16"),
        ("", [(9, 0)], "mixed_bfloat16"),
        ("avx512_bf16", [(7, 5)], "float32"),
        ("", [(8, 0), (7, 0)], "float32"),
    ],
)
def test_bfloat16_where_the_machine_multiplies_in_it(machine, flags, capabilities, wanted):
    machine(flags, capabilities)
    assert fastest_precision() == wanted


@pytest.mark.tensorflow_only
def test_a_system_that_does_not_tell_trains_in_float32(monkeypatch):
    def missing(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(precision.pathlib.Path, "read_text", missing)
    assert fastest_precision() == "float32"


def test_it_is_a_policy_of_keras():
    assert keras.DTypePolicy(fastest_precision()).variable_dtype == "float32"
