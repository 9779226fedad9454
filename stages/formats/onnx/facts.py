"""Define the facts of ONNX files."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.records.facts import ExportFacts
from stages.formats.calibration.choice import RangeChoice


class ONNXFacts(ExportFacts):
    """Describe an ONNX file: versions, I/O types, operator counts, and how many weights each type stores.

    `ranges` is what `calibration: auto` took.
    """

    kind: Literal["onnx-model"] = "onnx-model"
    opset: int
    ir_version: int
    weights: dict[str, int] = Field(default_factory=dict)
    ranges: RangeChoice | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        return (self.ranges.said,) if self.ranges else ()

    @property
    def transposes(self) -> int:
        return self.operators.get("Transpose", 0)
