"""Judge shares of samples: the interval of one share, and whether one of two classifiers is right more often."""

from __future__ import annotations

from math import comb, erfc, sqrt

Z_95 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution


def wilson_interval(correct: float, samples: int, z: float = Z_95) -> tuple[float, float]:
    """Return the 95 % interval of a share (E. B. Wilson, 1927): within 0 and 1, and right near both ends."""
    if samples <= 0:
        raise ValueError("an interval needs at least one sample")
    share, square = correct / samples, z * z
    center = (share + square / (2 * samples)) / (1 + square / samples)
    half = z / (1 + square / samples) * sqrt(share * (1 - share) / samples + square / (4 * samples * samples))
    # At the ends the exact bounds are 0 and 1, which the sums miss by a rounding error.
    low = 0.0 if correct == 0 else max(0.0, center - half)
    high = 1.0 if correct == samples else min(1.0, center + half)
    return low, high


def surely_more(gained: int, lost: int, z: float) -> bool:
    """Return whether a classifier is better than another on the same samples, as surely as `z` standard deviations.

    `gained` samples are right with it alone, `lost` ones with the other alone: the exact test of Q. McNemar (1947),
    one-sided. Samples on which both are right, or both wrong, say nothing.
    """
    differing = gained + lost
    tail = sum(comb(differing, count) for count in range(gained, differing + 1))
    return bool(tail / 2**differing < erfc(z / sqrt(2)) / 2)
