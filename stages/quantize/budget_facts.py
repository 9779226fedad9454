"""Define the facts of a budget's report."""

from __future__ import annotations

from typing import Literal

from pipeline.errors import first_few
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

    def words(self, cost: str | None) -> str:
        """Return what is kept in the file, what it costs and what it loses; `cost` is the metric on the target."""
        kept = (("float32", self.kept_float), ("int16x8", self.kept_int16))
        parts = [f"{first_few(names)} in {precision}" for precision, names in kept if names]
        costs = "" if self.cost is None else f", {self.cost:.3f} of float32's cost ({cost})"
        drop = "" if self.accuracy_drop is None else f"loses {self.accuracy_drop:.4f} of accuracy, "
        what = f"keeps {' and '.join(parts)}" if parts else "keeps no layer"
        return f"{what}: {self.size_bytes:,} bytes{costs}, {drop}noise {self.noise:.2e}"


class BudgetFacts(Facts):
    """Record all files that were tried within a budget, in that order, and the place of the one that was taken.

    `cost` is the metric on the target.
    """

    kind: Literal["budget-report"] = "budget-report"
    budget: Budget
    cost: str | None
    tries: tuple[BudgetTry, ...]
    chosen: int

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what was taken, and what int8 alone would be, in a sentence."""
        taken, plain = self.tries[self.chosen], self.tries[0]
        best = f"of {len(self.tries)} files the best {taken.words(self.cost)}"
        return (f"budget: {best}; int8 alone {plain.words(self.cost)}",)
