"""Define the facts of a budget's report."""

from __future__ import annotations

from typing import Literal

from pipeline.records.artifacts import Facts
from pipeline.records.schemes import Budget
from pipeline.records.values import Value


class BudgetTry(Value):
    """Record a file that was made and measured: its size, its cost on the target, and what it loses.

    `kept_float` and `kept_int16` are layers. `cost` is relative to the float32 file's, None without a target. `noise`
    is the power of the outputs' errors relative to the outputs', `accuracy_drop` is the model's accuracy minus the
    file's, None without labels of classes; both on validation samples.
    """

    kept_float: tuple[str, ...]
    kept_int16: tuple[str, ...]
    size_bytes: int
    cost: float | None
    accuracy_drop: float | None
    noise: float


class BudgetFacts(Facts):
    """Record all files that were tried within a budget, in that order, and the place of the one that was taken.

    `cost` is the metric on the target.
    """

    kind: Literal["budget-report"] = "budget-report"
    budget: Budget
    cost: str | None
    tries: tuple[BudgetTry, ...]
    chosen: int
