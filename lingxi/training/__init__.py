"""Optimizers, schedules, losses, and evaluation by what a model writes."""

from lingxi.training.adamw import AdamW, layer_decay
from lingxi.training.contrastive import (
    CosineCorrelation,
    CosineLoss,
    InBatchNegatives,
    RetrievalAccuracy,
)
from lingxi.training.entities import EntityReport, EntityScores, entity_report
from lingxi.training.evaluation import TextEvaluation
from lingxi.training.losses import IGNORED, TokenAccuracy, TokenCrossEntropy
from lingxi.training.perplexity import Perplexity
from lingxi.training.schedule import InverseSquareRoot, WarmupLinearDecay
from lingxi.training.unfreezing import GradualUnfreezing

__all__ = [
    "IGNORED",
    "AdamW",
    "CosineCorrelation",
    "CosineLoss",
    "EntityReport",
    "EntityScores",
    "GradualUnfreezing",
    "InBatchNegatives",
    "InverseSquareRoot",
    "Perplexity",
    "RetrievalAccuracy",
    "TextEvaluation",
    "TokenAccuracy",
    "TokenCrossEntropy",
    "WarmupLinearDecay",
    "entity_report",
    "layer_decay",
]
