"""The settings of the export stage."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.artifacts import Format
from pipeline.stage import StageConfig


class ExportConfig(StageConfig):
    """Which files to make of each quantized model, and for ONNX by which operator set.

    Operator set 17 is the newest in which tf2onnx keeps a global average pool one operator: from 18 on it becomes
    a transpose and a mean. `unsupported` says what happens to a pair of format and scheme that does not exist.
    """

    formats: tuple[Format, ...] = Field(min_length=1)
    opset: int = Field(17, ge=13, le=18)
    unsupported: Literal["refuse", "skip"] = "refuse"

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.formats)) != len(self.formats):
            raise ValueError("each format can be named once")
        return self
