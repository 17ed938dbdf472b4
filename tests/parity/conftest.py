"""Parity with the reference implementation, and a table of how near it is."""

import pytest

NO_REFERENCE = "needs the extra `reference`: pip install 'lingxi[reference]'"
MAXIMA = pytest.StashKey()


def pytest_configure(config):
    config.stash[MAXIMA] = {}


@pytest.fixture(scope="session")
def transformers():
    pytest.importorskip("torch", reason=NO_REFERENCE)
    return pytest.importorskip("transformers", reason=NO_REFERENCE)


@pytest.fixture
def assert_near(request):
    """A function: the greatest difference is within the tolerance; noted for the summary."""
    import numpy as np

    def check(name, ours, theirs, tolerance=1e-5):
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        assert ours.shape == theirs.shape
        difference = float(np.abs(ours - theirs).max())
        maxima = request.config.stash[MAXIMA]
        row = request.node.name.removeprefix("test_")
        maxima[row, name] = max(difference, maxima.get((row, name), (0, 0))[0]), tolerance
        assert difference <= tolerance, name

    return check


def pytest_terminal_summary(terminalreporter, config):
    maxima = config.stash.get(MAXIMA, {})
    if not maxima:
        return
    terminalreporter.section("greatest differences from the reference")
    for (row, name), (difference, tolerance) in maxima.items():
        terminalreporter.write_line(f"{difference:.1e} of {tolerance:.0e}  {name}: {row}")
