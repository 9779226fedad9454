"""Settings of fine-tuning."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.stage import StageConfig
from pipeline.values import Value


class Plateau(Value):
    """ReduceLROnPlateau on the validation loss: multiply the learning rate by `factor` after `patience` epochs."""

    factor: float = Field(default=0.1, gt=0, lt=1)
    patience: int = Field(default=3, ge=0)
    min_learning_rate: float = Field(default=0.0, ge=0)


class FinetuneConfig(StageConfig):
    """How to train. The weights of the epoch with the lowest validation loss are kept."""

    epochs: int = Field(default=3, ge=1)
    batch: int = Field(default=64, ge=1)
    optimizer: Literal["adam", "sgd", "rmsprop"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    schedule: Literal["constant", "cosine", "reduce_on_plateau"] = "reduce_on_plateau"
    plateau: Plateau = Field(default_factory=Plateau)
    early_stopping: int | None = Field(default=5, ge=1, description="epochs without a better validation loss")
