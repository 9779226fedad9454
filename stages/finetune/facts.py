"""Define the facts of a training."""

from __future__ import annotations

from typing import Literal

from pipeline.records.artifacts import Facts


class TrainingFacts(Facts):
    """Describe a fine-tuning: epochs run, the one whose weights were kept (from 1), and its validation loss."""

    kind: Literal["training-log"] = "training-log"
    epochs: int
    best_epoch: int
    best_validation_loss: float
