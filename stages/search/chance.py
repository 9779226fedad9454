"""Say how much of a drop on validation data may be chance: who is chosen at the border on some samples fails on others.

Both networks are judged on the same samples, so only those count that one of them names rightly and the other does
not. These are about half as many as there are errors: of a pruned ResNet-8 and its control 8.3 % of 5,000 images, with
17 % errors; of the demo's networks 3.3 % of 2,000, with 6.5 %. A network that loses the goal differs on as many at
least.
"""

from __future__ import annotations

from math import sqrt

DIFFERING = 0.5  # samples on which two networks differ, for each error


def chance_of(yardstick: float | None, samples: int | None, max_drop: float | None) -> float:
    """Return the standard error of a drop near the goal: of a paired difference of accuracies on so many samples.

    0 where it is not known (McNemar, "Note on the sampling error of the difference between correlated proportions",
    1947).
    """
    if yardstick is None or not samples or max_drop is None:
        return 0.0
    differing = max(DIFFERING * (1 - yardstick), max_drop)
    return sqrt(differing / samples)
