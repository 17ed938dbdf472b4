"""Optimizers, schedules, losses, and evaluation by what a model writes."""

from lingxi.training.adamw import AdamW, layer_decay
from lingxi.training.adversarial import Fgm, FreeLb, Pgd, VirtualAdversarial
from lingxi.training.averaging import WeightAverage
from lingxi.training.calibration import best_temperature
from lingxi.training.checkpoints import Checkpoints
from lingxi.training.contrastive import (
    CosineCorrelation,
    CosineLoss,
    InBatchNegatives,
    RetrievalAccuracy,
)
from lingxi.training.distillation import Distiller
from lingxi.training.distribution import (
    distribute,
    is_first_process,
    num_processes,
    split_rows,
    whole_weights,
)
from lingxi.training.entities import EntityReport, EntityScores, entity_report
from lingxi.training.evaluation import TextEvaluation
from lingxi.training.lora import add_lora, lora_layers, merge_lora
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
from lingxi.training.mixing import Cutoff, Mixup
from lingxi.training.perplexity import Perplexity
from lingxi.training.precision import fastest_precision
from lingxi.training.pruning import MagnitudePruning, importance, prune_heads, prune_units
from lingxi.training.quantization_aware import quantization_aware
from lingxi.training.r_drop import RDrop
from lingxi.training.recomputing import recomputed
from lingxi.training.resuming import ResumableCallbacks, fit_resumably, run_seed
from lingxi.training.schedule import (
    SCHEDULES,
    InverseSquareRoot,
    Warmup,
    WarmupLinearDecay,
    named_schedule,
)
from lingxi.training.technique import Technique
from lingxi.training.tensorboard import TensorBoard
from lingxi.training.tuning import Trial, default_space, tune
from lingxi.training.unfreezing import GradualUnfreezing
from lingxi.training.watching import ProgressBar, RunRecord, mlflow_logger, wandb_logger

__all__ = [
    "IGNORED",
    "SCHEDULES",
    "AdamW",
    "Checkpoints",
    "ClassCrossEntropy",
    "CosineCorrelation",
    "CosineLoss",
    "Cutoff",
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
    "Mixup",
    "Perplexity",
    "Pgd",
    "ProgressBar",
    "RDrop",
    "ResumableCallbacks",
    "RetrievalAccuracy",
    "RunRecord",
    "Technique",
    "TensorBoard",
    "TextEvaluation",
    "TokenAccuracy",
    "TokenCrossEntropy",
    "Trial",
    "VirtualAdversarial",
    "Warmup",
    "WarmupLinearDecay",
    "WeightAverage",
    "add_lora",
    "best_temperature",
    "default_space",
    "distribute",
    "entity_report",
    "fastest_precision",
    "fit_resumably",
    "importance",
    "is_first_process",
    "layer_decay",
    "lora_layers",
    "merge_lora",
    "mlflow_logger",
    "named_schedule",
    "num_processes",
    "prune_heads",
    "prune_units",
    "quantization_aware",
    "recomputed",
    "run_seed",
    "split_rows",
    "token_divergence",
    "tune",
    "wandb_logger",
    "whole_weights",
    "yes_or_no",
]
