"""`import lingxi` costs nothing."""

import subprocess
import sys

import lingxi


def run(code):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_importing_lingxi_is_fast_and_brings_no_framework():
    code = """
import sys, time
start = time.perf_counter()
import lingxi
seconds = time.perf_counter() - start
heavy = {"tensorflow", "keras", "numpy", "torch", "jax"} & set(sys.modules)
print(seconds, *heavy)
"""
    seconds, *heavy = run(code).split()
    assert not heavy
    assert float(seconds) < 0.3


def test_a_room_is_imported_when_touched():
    code = """
import sys, lingxi
assert "lingxi.training" not in sys.modules
lingxi.training.AdamW
assert "lingxi.training" in sys.modules and "lingxi.tasks" not in sys.modules
print("fine")
"""
    assert run(code).endswith("fine")


def test_every_room_exists_and_is_listed():
    for name in lingxi._ROOMS:
        assert getattr(lingxi, name).__name__ == f"lingxi.{name}"
        assert name in dir(lingxi)


def test_an_unknown_name_lists_the_rooms():
    try:
        lingxi.nothing  # noqa: B018
    except AttributeError as error:
        assert str(error).startswith("module 'lingxi' has no attribute 'nothing'; it has ")
        assert "tasks" in str(error)
    else:
        raise AssertionError("an unknown name was found")
