"""Define what a recipe says about other recipes like it: `search`, what to look for, and `sweep`, which ones to run.

A key names a setting as `--set` does: `stages.prune.latency`, `seed`.
"""

from __future__ import annotations

from itertools import product
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, model_validator

from pipeline.records.values import Json, Value

SettingPath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][^\s=]*$", max_length=200)]
MetricPath = Annotated[str, StringConstraints(pattern=r"^[^\s]+\.[^\s.]+$|^[a-z][a-z0-9_]*$", max_length=200)]
Choices = Annotated[tuple[Any, ...], Field(min_length=1)]


class Interval(Value):
    """Let a number vary between two bounds: whole numbers if both bounds and the step are, `log` for its magnitude."""

    low: int | float
    high: int | float
    step: int | float | None = Field(None, gt=0)
    log: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must be less than high ({self.high:g})")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs low above 0 and no step")
        return self


class Budget(Value):
    """Bound a search: it ends at whichever comes first. `trials` counts candidates of any fidelity."""

    trials: int = Field(40, ge=1)
    minutes: float = Field(30.0, gt=0)


class SearchSpec(Value):
    """Say what the best recipe is and where to look for it.

    `objectives` are the cost, which is to be low, and an accuracy, which is to be high; by default the cost of the
    recipe's own files on its own target. `constraints` bound `accuracy_drop` (against the control, or the source
    if nothing is trained) and costs such as `size_bytes`. `space` are the settings that vary, each a list of choices or
    bounds; by default how much is pruned, the criterion, and how training goes.
    """

    objectives: tuple[MetricPath, ...] = Field((), max_length=2)
    constraints: dict[MetricPath, float] = Field(default_factory=dict)
    budget: Budget = Field(default_factory=Budget)
    space: dict[SettingPath, Choices | Interval] = Field(default_factory=dict)


Grid = dict[SettingPath, Choices]
Listed = Annotated[tuple[dict[SettingPath, Any], ...], Field(min_length=1)]
SweepSpec = Listed | Grid  # each of a list, or all combinations


def swept(sweep: SweepSpec) -> tuple[dict[str, Json], ...]:
    """Return the settings of each recipe of a sweep: the last key of a grid varies fastest."""
    if not isinstance(sweep, dict):
        return tuple(dict(entry) for entry in sweep)
    return tuple(dict(zip(sweep, values, strict=True)) for values in product(*sweep.values()))
