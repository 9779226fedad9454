"""Define the facts of C source."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.records.facts import ExportFacts


class CSourceFacts(ExportFacts):
    """Describe a TFLite file as C source for microcontrollers: what the array holds, and the arena that it needs."""

    kind: Literal["c-source"] = "c-source"
    array_bytes: int
    arena_bytes: int | None = Field(description="None where TensorFlow Lite for Microcontrollers is not installed")
    keeps_state: bool = False
