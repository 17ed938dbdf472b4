"""Matches are drawn into files of several kinds."""

import sys

import numpy as np
import pytest

from lingxi.images import read, save_matches

MATCHES = (np.array([[5, 5], [20, 9]]), np.array([[3, 4], [30, 20]]), np.array([0.9, 0.3]))


@pytest.fixture
def pictures():
    return np.full((32, 40, 1), 0.2, "float32"), np.full((48, 64, 1), 0.7, "float32")


def test_a_drawing_has_both_pictures_and_its_lines(pictures, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "matches.png"
    save_matches(path, *pictures, *MATCHES)
    drawn = read(path)
    assert drawn.shape == (48, 40 + 8 + 64, 1)
    assert drawn[30, 2, 0] == pytest.approx(0.2, abs=0.02)
    assert drawn[46, 100, 0] == pytest.approx(0.7, abs=0.02)
    assert len(np.unique(drawn)) > 10  # the lines


def test_no_match_is_no_error(pictures, tmp_path):
    pytest.importorskip("matplotlib")
    nothing = np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0)
    save_matches(tmp_path / "none.pdf", *pictures, *nothing)
    assert (tmp_path / "none.pdf").read_bytes().startswith(b"%PDF")


def test_an_unknown_ending_leaves_nothing(pictures, tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="xyz"):
        save_matches(tmp_path / "matches.xyz", *pictures, *MATCHES)
    assert not list(tmp_path.iterdir())


def test_the_extra_is_named_where_matplotlib_is_missing(pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'lingxi\[plots\]'"):
        save_matches(tmp_path / "matches.png", *pictures, *MATCHES)
