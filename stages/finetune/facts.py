"""Define the facts of a training."""

from __future__ import annotations

from typing import Literal

from pipeline.records.artifacts import Facts


class TrainingFacts(Facts):
    """Describe a fine-tuning: epochs run, the one whose weights were kept, and its validation loss.

    Epochs count from 1; 0 says that no epoch was better than the weights before training, which were kept.
    """

    kind: Literal["training-log"] = "training-log"
    epochs: int
    best_epoch: int
    best_validation_loss: float
