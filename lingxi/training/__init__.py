"""Optimizers and schedules."""

from lingxi.training.adamw import AdamW
from lingxi.training.schedule import WarmupLinearDecay

__all__ = ["AdamW", "WarmupLinearDecay"]
