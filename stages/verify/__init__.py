"""Verification: exported files beside their Keras reference, and metrics on the test split."""

from __future__ import annotations

from stages.parity import cosine, max_abs_diff, mean_abs_diff, sqnr_db, top_agreement, worst_sample
from stages.verify.config import Bounds, EvaluateConfig, Tolerances, VerifyConfig
from stages.verify.evaluate import EvaluateStage
from stages.verify.metrics import Evaluation, evaluate, wilson_interval
from stages.verify.stage import VerifyStage

__all__ = [
    "Bounds",
    "EvaluateConfig",
    "EvaluateStage",
    "Evaluation",
    "Tolerances",
    "VerifyConfig",
    "VerifyStage",
    "cosine",
    "evaluate",
    "max_abs_diff",
    "mean_abs_diff",
    "sqnr_db",
    "top_agreement",
    "wilson_interval",
    "worst_sample",
]
