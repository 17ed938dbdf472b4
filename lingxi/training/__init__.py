"""Optimizers, schedules, losses, and evaluation by what a model writes."""

from lingxi.training.adamw import AdamW, layer_decay
from lingxi.training.checkpoints import Checkpoints
from lingxi.training.contrastive import (
    CosineCorrelation,
    CosineLoss,
    InBatchNegatives,
    RetrievalAccuracy,
)
from lingxi.training.entities import EntityReport, EntityScores, entity_report
from lingxi.training.evaluation import TextEvaluation
from lingxi.training.losses import IGNORED, TokenAccuracy, TokenCrossEntropy
from lingxi.training.matching import HomographyAuc, MatchingScore, MatchPrecision
from lingxi.training.perplexity import Perplexity
from lingxi.training.resuming import ResumableCallbacks, fit_resumably, run_seed
from lingxi.training.schedule import InverseSquareRoot, WarmupLinearDecay
from lingxi.training.unfreezing import GradualUnfreezing

__all__ = [
    "IGNORED",
    "AdamW",
    "Checkpoints",
    "CosineCorrelation",
    "CosineLoss",
    "EntityReport",
    "EntityScores",
    "GradualUnfreezing",
    "HomographyAuc",
    "InBatchNegatives",
    "InverseSquareRoot",
    "MatchPrecision",
    "MatchingScore",
    "Perplexity",
    "ResumableCallbacks",
    "RetrievalAccuracy",
    "TextEvaluation",
    "TokenAccuracy",
    "TokenCrossEntropy",
    "WarmupLinearDecay",
    "entity_report",
    "fit_resumably",
    "layer_decay",
    "run_seed",
]
