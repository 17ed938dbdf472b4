"""A page about a training: curves, errors, calibration, and a card of the model."""

from lingxi.report.page import write

__all__ = ["write"]
