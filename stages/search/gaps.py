"""Find which budget to train next where the whole front is looked for: in the middle of its widest gap."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import inf, sqrt

from pipeline.recipe.search_spec import Interval

NARROW = 1.35  # a gap is narrow where its upper budget is at most so many times the lower one


def widest_gap(known: Sequence[tuple[float, float | None]], bounds: Interval) -> float | None:
    """Return the budget to train next: the lower bound, then the middle of the widest gap; None once all are narrow.

    `known` are budgets with what was lost there, None where nothing could be trained. A gap is as wide as the area that
    a candidate in it can add to the front at most: the difference of the budgets times that of the losses. Nothing is
    taken to be lost at the upper bound, since nearly all of the network is left there.
    """
    if not known:
        return bounds.low
    losses = {bounds.high: 0.0} | {budget: inf if loss is None else loss for budget, loss in known}
    budgets = sorted(losses)
    # What loses more than a smaller budget is bad luck: the front stays where it was.
    least = accumulate((losses[budget] for budget in budgets), min)
    gaps = [
        ((upper - lower) * (most - less), sqrt(lower * upper))
        for (lower, most), (upper, less) in pairwise(zip(budgets, least, strict=True))
        if upper > NARROW * lower and most > less
    ]
    return max(gaps)[1] if gaps else None
