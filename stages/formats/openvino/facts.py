"""Define the facts of OpenVINO models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.records.facts import ExportFacts


class OpenVINOFacts(ExportFacts):
    """Describe a model in OpenVINO's intermediate representation.

    `weights` counts weights by the type that stores them; `inference_precision` is what float operators computed in
    when the model was checked.
    """

    kind: Literal["openvino-model"] = "openvino-model"
    ir_version: int
    inference_precision: str
    weights: dict[str, int] = Field(default_factory=dict)
