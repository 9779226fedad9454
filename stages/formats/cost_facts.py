"""Facts of cost tables."""

from __future__ import annotations

from typing import Literal

from pipeline.records.artifacts import Facts


class CostFacts(Facts):
    """What layers alone cost on a target, in `unit`; `spread` is the relative difference that means nothing."""

    kind: Literal["cost-table"] = "cost-table"
    target: str
    runtime: str
    scheme: str
    unit: str
    probes: int
    spread: float
