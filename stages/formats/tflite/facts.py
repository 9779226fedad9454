"""Facts of TFLite files."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.records.facts import ExportFacts


class TFLiteFacts(ExportFacts):
    """A TFLite file: I/O types, how often each operator occurs, and how many weights are stored in each type.

    One that `keeps_state` gives what Keras gives only where its variables are cleared before each sample.
    """

    kind: Literal["tflite-model"] = "tflite-model"
    weights: dict[str, int] = Field(default_factory=dict)
    keeps_state: bool = False
