"""The settings of the benchmark stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.stage import StageConfig

Target = Literal["cpu"]
ENOUGH_ROUNDS = 10  # an interval over fewer is not to be relied on


class BenchmarkConfig(StageConfig):
    """Where and how long to measure. More rounds narrow the interval; more seconds hardly do.

    `rounds` are pairs of fresh processes, one of the candidate and one of the baseline; `seconds` is how long each
    process takes samples; `threads` is what the runtime's kernels may use.
    """

    targets: tuple[Target, ...] = Field(("cpu",), min_length=1)
    rounds: int = Field(ENOUGH_ROUNDS, ge=1)
    seconds: float = Field(0.1, gt=0)
    threads: int = Field(1, ge=1)
