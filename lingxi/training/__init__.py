"""Optimizers, schedules, losses, and evaluation by what a model writes."""

from lingxi.training.adamw import AdamW
from lingxi.training.evaluation import TextEvaluation
from lingxi.training.losses import IGNORED, TokenAccuracy, TokenCrossEntropy
from lingxi.training.schedule import InverseSquareRoot, WarmupLinearDecay

__all__ = [
    "IGNORED",
    "AdamW",
    "InverseSquareRoot",
    "TextEvaluation",
    "TokenAccuracy",
    "TokenCrossEntropy",
    "WarmupLinearDecay",
]
