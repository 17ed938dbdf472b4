"""Optimizers, schedules, losses, and evaluation by what a model writes."""

from lingxi.training.adamw import AdamW, layer_decay
from lingxi.training.adversarial import Fgm, FreeLb, Pgd, VirtualAdversarial
from lingxi.training.averaging import WeightAverage
from lingxi.training.checkpoints import Checkpoints
from lingxi.training.contrastive import (
    CosineCorrelation,
    CosineLoss,
    InBatchNegatives,
    RetrievalAccuracy,
)
from lingxi.training.distillation import Distiller
from lingxi.training.entities import EntityReport, EntityScores, entity_report
from lingxi.training.evaluation import TextEvaluation
from lingxi.training.lora import add_lora, merge_lora
from lingxi.training.losses import (
    IGNORED,
    ClassCrossEntropy,
    FocalLoss,
    KlDivergence,
    TokenAccuracy,
    TokenCrossEntropy,
    token_divergence,
    yes_or_no,
)
from lingxi.training.matching import HomographyAuc, MatchingScore, MatchPrecision
from lingxi.training.perplexity import Perplexity
from lingxi.training.pruning import MagnitudePruning, importance, prune_heads, prune_units
from lingxi.training.quantization_aware import quantization_aware
from lingxi.training.r_drop import RDrop
from lingxi.training.resuming import ResumableCallbacks, fit_resumably, run_seed
from lingxi.training.schedule import (
    SCHEDULES,
    InverseSquareRoot,
    Warmup,
    WarmupLinearDecay,
    named_schedule,
)
from lingxi.training.technique import Technique
from lingxi.training.unfreezing import GradualUnfreezing

__all__ = [
    "IGNORED",
    "SCHEDULES",
    "AdamW",
    "Checkpoints",
    "ClassCrossEntropy",
    "CosineCorrelation",
    "CosineLoss",
    "Distiller",
    "EntityReport",
    "EntityScores",
    "Fgm",
    "FocalLoss",
    "FreeLb",
    "GradualUnfreezing",
    "HomographyAuc",
    "InBatchNegatives",
    "InverseSquareRoot",
    "KlDivergence",
    "MagnitudePruning",
    "MatchPrecision",
    "MatchingScore",
    "Perplexity",
    "Pgd",
    "RDrop",
    "ResumableCallbacks",
    "RetrievalAccuracy",
    "Technique",
    "TextEvaluation",
    "TokenAccuracy",
    "TokenCrossEntropy",
    "VirtualAdversarial",
    "Warmup",
    "WarmupLinearDecay",
    "WeightAverage",
    "add_lora",
    "entity_report",
    "fit_resumably",
    "importance",
    "layer_decay",
    "merge_lora",
    "named_schedule",
    "prune_heads",
    "prune_units",
    "quantization_aware",
    "run_seed",
    "token_divergence",
    "yes_or_no",
]
