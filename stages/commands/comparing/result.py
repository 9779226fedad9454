"""Define the result of a comparison: every number with what it was compared with, and one overall verdict."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from pipeline.records.artifacts import Digest
from pipeline.records.manifest import Interval
from pipeline.records.values import Value

Verdict = Literal["regression", "inconclusive", "ok"]  # worst first
EXIT_CODES: dict[Verdict, int] = {"ok": 0, "regression": 1, "inconclusive": 5}


class Side(Value):
    """Describe one file of a pair."""

    name: str
    digest: Digest
    size_bytes: int


class Evidence(Value):
    """Hold the rounds that support a measured ratio.

    `ratios` has each round's candidate / baseline, in order; `apart` the numbers (from 1) of outlying rounds, which
    count nevertheless. `noise_floor` is how far from 1 one model against itself comes in 95 of 100 comparisons like
    this one. `extended` says whether rounds were added because the first were inconclusive; `p_value` is set if several
    models were compared at once.
    """

    rounds: int
    extended: bool
    noise_floor: float | None
    ratios: tuple[float, ...]
    apart: tuple[int, ...] = ()
    p_value: float | None = None


class MetricResult(Value):
    """Compare one number of both sides; `candidate` is worse if `change` is above 0.

    `metric` is a name of `compared()`. `change` is candidate / baseline - 1 (the inverse, if higher is better), for
    shares (accuracy, `npu`) what is lost (0.01 is one point). `interval` is that of the change, unless it is exact.
    `tolerance` and `verdict` are null if the number is only shown.
    """

    metric: str
    target: str | None = None
    unit: str
    baseline: float
    candidate: float
    change: float
    interval: Interval | None = None
    tolerance: float | None = Field(default=None, ge=0)
    verdict: Verdict | None = None
    reason: str | None = None
    estimated: bool = False
    evidence: Evidence | None = None

    @property
    def name(self) -> str:
        """Return `latency@cpu` or `size`."""
        return f"{self.metric}@{self.target}" if self.target else self.metric


class PairResult(Value):
    """Pair a baseline model with the candidate model that is compared with it."""

    name: str
    baseline: Side
    candidate: Side
    metrics: tuple[MetricResult, ...]
    notes: tuple[str, ...] = ()

    def held(self) -> tuple[MetricResult, ...]:
        """Return the metrics that have a verdict."""
        return tuple(result for result in self.metrics if result.verdict is not None)


class ComparisonReport(Value):
    """Hold the whole answer. `devices` holds the devices measured on, by target; `unpaired` what only one side has."""

    schema_version: Literal[1] = 1
    base: str
    candidate: str
    devices: dict[str, dict[str, str]]
    pairs: tuple[PairResult, ...]
    unpaired: tuple[str, ...]
    verdict: Verdict

    def findings(self, verdict: Verdict) -> list[tuple[PairResult, MetricResult]]:
        """Return all results with this verdict, each with its pair."""
        return [(pair, result) for pair in self.pairs for result in pair.held() if result.verdict == verdict]


def worst(verdicts: Iterable[Verdict | None]) -> Verdict:
    """Return the worst: one regression makes a regression; else one undecided makes it inconclusive."""
    distinct = set(verdicts)
    return "regression" if "regression" in distinct else "inconclusive" if "inconclusive" in distinct else "ok"
