"""Define the facts of TFLite files."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.records.facts import ExportFacts
from stages.formats.calibration.choice import RangeChoice


class TFLiteFacts(ExportFacts):
    """Describe a TFLite file: I/O types, operator counts, and how many weights are stored in each type.

    A file that `keeps_state` matches Keras only if its variables are cleared before each sample. `ranges` is what
    `calibration: auto` took.
    """

    kind: Literal["tflite-model"] = "tflite-model"
    weights: dict[str, int] = Field(default_factory=dict)
    keeps_state: bool = False
    ranges: RangeChoice | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        return (self.ranges.said,) if self.ranges else ()
