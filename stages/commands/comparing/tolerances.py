"""Parse how much worse a metric may get: `5%`, `0.05`, or `size=0%` for one metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from pipeline.errors import RecipeError
from pipeline.recipe.errors import nearest
from stages.commands.comparing.result import Metric

OPTION = "--tolerance"
GENERAL = 0.05
POINTS: Mapping[str, float] = {"accuracy": 0.01, "npu": 0.0}
METRICS: tuple[str, ...] = get_args(Metric)


@dataclass(frozen=True)
class Tolerances:
    """Hold shares by metric; `general` applies to all others.

    For accuracy the default is one point, and for the NPU's share of operators none.
    """

    general: float = GENERAL
    named: Mapping[str, float] = field(default_factory=dict)

    def of(self, metric: Metric) -> float:
        """Return the tolerance of one metric."""
        return self.named.get(metric, POINTS.get(metric, self.general))


def read_tolerances(texts: Sequence[str]) -> Tolerances:
    """Parse the command line's tolerances, the last of each kind; RecipeError if one is implausible."""
    general, named = GENERAL, {}
    for text in texts:
        metric, equals, value = text.rpartition("=")
        if not equals:
            general = _share(value, text)
        elif metric in METRICS:
            named[metric] = _share(value, text)
        else:
            raise RecipeError(f"{metric!r} is no metric", where=f"{OPTION} {text}", hint=nearest(metric, list(METRICS)))
    return Tolerances(general, named)


def _share(value: str, text: str) -> float:
    where = f"{OPTION} {text}"
    digits = value.strip().removesuffix("%").strip()
    try:
        number = float(digits)
    except ValueError as error:
        hint = "5%, 0.05, or size=0% for one metric"
        raise RecipeError(f"{value!r} is no tolerance", where=where, hint=hint) from error
    if not math.isfinite(number) or number < 0:
        raise RecipeError(f"a tolerance can't be {value.strip()}", where=where, hint="0% is the least")
    if value.strip().endswith("%"):
        return number / 100
    if number >= 1:
        raise RecipeError(f"{value} would be {number:.0%}", where=where, hint=f"write {digits}% if that is meant")
    return number
