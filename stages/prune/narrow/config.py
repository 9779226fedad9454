"""Define the settings of the narrower network: those of the pruning beside which it stands."""

from __future__ import annotations

from typing import Self

from pydantic import Field

from pipeline.contracts.stage import StageConfig
from stages.prune.config import PruneConfig


class NarrowConfig(StageConfig):
    """Set which numbers of channels groups may keep. Recipes don't write this; it follows from their pruning."""

    round_to: int = Field(1, ge=1, description="channels kept are a multiple of this where a group is that big")
    min_channels: int = Field(1, ge=1, description="no layer keeps fewer channels than this")
    exclude: tuple[str, ...] = Field((), description="names or patterns of layers whose channels stay")

    @classmethod
    def beside(cls, pruning: PruneConfig) -> Self:
        """Return the settings beside a pruning. Steps that it measures on a device make latency equal, not MACs."""
        round_to = 1 if pruning.round_to == "auto" else pruning.round_to
        return cls(round_to=round_to, min_channels=pruning.min_channels, exclude=pruning.exclude)
