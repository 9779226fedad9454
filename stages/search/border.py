"""Find how much must be left for the goal's accuracy: bisect the budget on what trained candidates lost."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, log, sqrt

from pipeline.recipe.search_spec import Interval

NARROW = 1.1  # the border is known well enough where what meets the goal is so many times what misses it
APART = 1.05  # candidates closer than this are one
STEP = 1.5  # by which the budget moves while all candidates are on one side
SAFER = 1.2  # times the border's budget: what just meets the goal misses it on other samples
NEAR = 1.3  # a budget that is offered is taken for one at most so many times as large or as small


def next_budget(
    known: Sequence[tuple[float, bool]], bounds: Interval, start: float, impossible: Sequence[float] = ()
) -> float | None:
    """Return the budget to try next; None once the border is known, or lies beyond the bounds.

    `known` are budgets with whether the goal was met; a smaller budget leaves less of the network. They are taken to
    be monotone: what misses the goal although a smaller budget met it is taken for bad luck. The network can't come
    down to those that are `impossible`, which says nothing of its accuracy.
    """
    floor = max(impossible, default=0.0)
    low, high = max(bounds.low, APART * floor), bounds.high
    if low > high:
        return None
    meets = [budget for budget, met in known if met]
    best = min(meets, default=None)
    misses = [budget for budget, met in known if not met and (best is None or budget < best)]
    worst = max(misses, default=None)
    if best is None and worst is None:
        return min(max(start if start > floor else STEP * floor, low), high)
    if best is None or worst is None:
        known_end = best if worst is None else worst
        assert known_end is not None
        wanted = known_end / STEP if worst is None else known_end * STEP
        wanted = min(max(wanted, low), high)
        near_end = max(wanted, known_end) < APART * min(wanted, known_end)
        return None if near_end else wanted
    return None if best < NARROW * worst else sqrt(best * worst)


def safer_budget(known: Sequence[tuple[float, bool]], bounds: Interval) -> float | None:
    """Return a budget above the least of those that met the goal; None if there is none, or one was tried up there."""
    border = min((budget for budget, met in known if met), default=None)
    if border is None:
        return None
    budget = min(SAFER * border, float(bounds.high))
    tried = max(budget for budget, _ in known) > sqrt(border * budget)
    return None if tried or budget < APART * border else budget


def nearest_of(offered: Sequence[float], budget: float, known: Sequence[float]) -> float:
    """Return the offered budget nearest to `budget` that tells as much: no `known` one is between them, or equal to it.

    Where none is near, `budget` is returned as it is.
    """
    low = max((one for one in known if one <= budget), default=0.0)
    high = min((one for one in known if one >= budget), default=inf)
    near = [one for one in offered if low < one < high and max(one, budget) <= NEAR * min(one, budget)]
    return min(near, key=lambda one: abs(log(one / budget)), default=budget)
