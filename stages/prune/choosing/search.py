"""Search how much the predicted loss of each group counts, by trying allocations on the network itself.

Losses that are predicted group by group know nothing of each other: whether an error in one layer weighs as much at the
network's output as one in another shows only when both are there. So each group's loss gets a factor. Factors are
drawn at random, then those of ever fewer groups at once are drawn anew in the best so far (SPDY, Frantar and Alistarh
2022, arXiv:2201.13096).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Factors = NDArray[np.float64]
Counts = tuple[int, ...]

SPREAD = np.log(10.0)  # factors are drawn from a tenth to ten times
AT_RANDOM = 1 / 3  # of all tries; the rest begin with the best so far
MOST_CHANGED = 0.5  # of the groups, at first; in the end one
DRAWS_PER_TRY = 10  # many factors give an allocation that was tried before
WORST = float(np.finfo(np.float64).max)  # a number, so that a report can hold it


@dataclass(frozen=True, slots=True)
class Search:
    """Hold the best factors (G,), what `error` says of them and of equal ones, and how many allocations it judged."""

    factors: Factors
    error: float
    error_of_equal: float
    tried: int


def search(
    allocate: Callable[[Factors], Counts],
    error: Callable[[Counts], float],
    groups: int,
    tries: int,
    seed: int,
    heard: Callable[[int], None],
) -> Search:
    """Return the factors whose allocation has the least error of `tries` different ones; equal factors are the first.

    `allocate` gives the counts that factors lead to. An error that is not finite counts as the greatest number.
    """
    rng, known = np.random.default_rng(seed), dict[Counts, float]()
    best = np.zeros(groups)  # logarithms

    def judged(logarithms: Factors) -> float:
        counts = allocate(np.exp(logarithms))
        if counts not in known:
            found = error(counts)
            known[counts] = found if np.isfinite(found) else WORST
            heard(len(known))
        return known[counts]

    equal = least = judged(best)
    for _ in range(DRAWS_PER_TRY * tries):
        if len(known) >= tries:
            break
        drawn = rng.uniform(-SPREAD, SPREAD, groups)
        progress = (len(known) / tries - AT_RANDOM) / (1 - AT_RANDOM)
        if progress > 0:
            changed = max(1, round(MOST_CHANGED * (1 - progress) * groups))
            drawn = np.where(rng.permutation(groups) < changed, drawn, best)
        found = judged(drawn)
        if found < least:
            least, best = found, drawn
    return Search(np.exp(best), least, equal, len(known))
