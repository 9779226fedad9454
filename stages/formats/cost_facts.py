"""Define the facts of cost tables."""

from __future__ import annotations

from typing import Literal

from pipeline.records.artifacts import Facts


class CostFacts(Facts):
    """Hold costs of single layers on a target, in `unit`; a relative difference below `spread` is not significant."""

    kind: Literal["cost-table"] = "cost-table"
    target: str
    runtime: str
    scheme: str
    unit: str
    probes: int
    spread: float
