"""Define the facts of ONNX files."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.records.facts import ExportFacts


class ONNXFacts(ExportFacts):
    """Describe an ONNX file: versions, I/O types, operator counts, and how many weights each type stores."""

    kind: Literal["onnx-model"] = "onnx-model"
    opset: int
    ir_version: int
    weights: dict[str, int] = Field(default_factory=dict)

    @property
    def transposes(self) -> int:
        return self.operators.get("Transpose", 0)
