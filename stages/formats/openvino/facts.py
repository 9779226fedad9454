"""Facts of OpenVINO models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.records.facts import ExportFacts


class OpenVINOFacts(ExportFacts):
    """A model in OpenVINO's intermediate representation, and what it was checked in.

    `weights` is how many weights each type stores, `inference_precision` what its float operators compute in.
    """

    kind: Literal["openvino-model"] = "openvino-model"
    ir_version: int
    inference_precision: str
    weights: dict[str, int] = Field(default_factory=dict)
