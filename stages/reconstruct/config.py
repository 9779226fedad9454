"""Define the settings of reconstruction."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.contracts.stage import StageConfig


class ReconstructConfig(StageConfig):
    """Set on what samples the layers that pruning left are fitted to the source's outputs; labels are not used."""

    samples: int = Field(
        1024, ge=10, description="how many samples; all, where the split has fewer. One in five is held out"
    )
    positions: int = Field(32, ge=1, description="positions of each feature map, drawn by seed; all of smaller maps")
    ridge: float = Field(
        1e-3, gt=0, le=10, description="how firmly weights stay as they are, as a share of the inputs' variance"
    )
    data_split: Literal["train", "calibration"] = Field("calibration", description="whose samples")
