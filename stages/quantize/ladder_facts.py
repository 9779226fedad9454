"""Define the facts of a ladder's report."""

from __future__ import annotations

from typing import Literal

from pipeline.records.artifacts import Facts
from pipeline.records.values import Value


class LadderTry(Value):
    """Record a scheme that was tried: its time on the target relative to float32's, and the accuracy that it lost.

    The time is None if the scheme was too inaccurate to be measured. `kept_float` are layers.
    """

    name: str
    kept_float: tuple[str, ...]
    size_bytes: int
    latency_ratio: float | None
    accuracy_drop: float


class LadderFacts(Facts):
    """Record which scheme a ladder ended on, all that it tried, in that order, and why it stopped."""

    kind: Literal["ladder-report"] = "ladder-report"
    target: str
    max_accuracy_drop: float
    tries: tuple[LadderTry, ...]
    chosen: str
    why: str
