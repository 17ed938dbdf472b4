"""What is shown while something takes long."""

import sys

import pytest

from lingxi.answers import progress


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_count_is_shown_at_a_terminal_only(monkeypatch, capsys, is_terminal):
    monkeypatch.setattr(progress, "SHOWN_AFTER", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    assert list(progress.counted(iter("abc"), "check rows.csv", "row")) == ["a", "b", "c"]
    shown = capsys.readouterr().err
    assert ("check rows.csv: 3row" in shown) == is_terminal


def test_what_is_counted_fast_shows_nothing(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(progress.counted(iter("abc"), "check", "row")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
