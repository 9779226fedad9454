"""Define the facts of a reconstruction."""

from __future__ import annotations

from typing import Literal

from pipeline.records.artifacts import Facts


class ReconstructionFacts(Facts):
    """Describe what was fitted. Errors are of the network's outputs on held-out samples, against the source's.

    They are relative to the variance of the source's outputs: 0 is the source, 1 a constant.
    """

    kind: Literal["reconstruction-report"] = "reconstruction-report"
    layers: int
    fitted: int
    taken_back: int
    output_error_before: float
    output_error_after: float
