"""Parse how much worse a metric may get: `5%`, `0.05`, or `size=0%` for one metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.errors import RecipeError
from pipeline.recipe.errors import nearest
from stages.commands.comparing.compared import compared

OPTION = "--tolerance"
GENERAL = 0.05


@dataclass(frozen=True)
class Tolerances:
    """Hold shares by metric; `general` applies to all others but those that declare a tolerance of their own."""

    general: float = GENERAL
    named: Mapping[str, float] = field(default_factory=dict)

    def of(self, metric: str) -> float:
        """Return the tolerance of one metric."""
        known = compared().get(metric)
        own = known.tolerance if known else None
        return self.named.get(metric, self.general if own is None else own)


def read_tolerances(texts: Sequence[str]) -> Tolerances:
    """Parse the command line's tolerances, the last of each kind; RecipeError if one is implausible."""
    general, named = GENERAL, {}
    for text in texts:
        metric, equals, value = text.rpartition("=")
        if not equals:
            general = _share(value, text)
        elif metric in compared():
            named[metric] = _share(value, text)
        else:
            raise RecipeError(
                f"{metric!r} is not a metric", where=f"{OPTION} {text}", hint=nearest(metric, list(compared()))
            )
    return Tolerances(general, named)


def _share(value: str, text: str) -> float:
    where = f"{OPTION} {text}"
    digits = value.strip().removesuffix("%").strip()
    try:
        number = float(digits)
    except ValueError as error:
        hint = "5%, 0.05, or size=0% for one metric"
        raise RecipeError(f"{value!r} is not a tolerance", where=where, hint=hint) from error
    if not math.isfinite(number) or number < 0:
        raise RecipeError(f"a tolerance can't be {value.strip()}", where=where, hint="0% is the least")
    if value.strip().endswith("%"):
        return number / 100
    if number >= 1:
        raise RecipeError(f"{value} would be {number:.0%}", where=where, hint=f"write {digits}% if that is meant")
    return number
