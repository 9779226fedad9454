"""Compute the statistics of latency: estimates from interleaved rounds, and their uncertainty. Pure functions.

A round is one fresh process a side. Iterations inside one process share its memory layout, its clock and its neighbors,
so rounds are the units that are resampled, and a round counts as one number: its median.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import DeviceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 10_000
CONFIDENCE = 0.95
SAMPLES_FOR_P99 = 1_000
SIGNIFICANCE = 1 - CONFIDENCE
FENCE = 1.5  # J. Tukey's (Exploratory Data Analysis, 1977): outliers are this many interquartile ranges outside

Verdict = Literal["regression", "ok", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Hold candidate / baseline: below 1 the candidate is faster. `low` to `high` is the 95 % interval."""

    point: float
    low: float
    high: float
    rounds: int


def round_medians_ns(rounds: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """Return the median sample of each round, in nanoseconds."""
    import numpy as np

    return tuple(float(np.median(samples)) for samples in rounds)


def log_ratios(candidate: Sequence[float], baseline: Sequence[float]) -> NDArray[Any]:
    """Return the logarithms of candidate / baseline, round by round (an array); DeviceError if rounds don't pair."""
    import numpy as np

    if len(candidate) != len(baseline) or not candidate:
        raise DeviceError(f"rounds don't pair: {len(candidate)} of the candidate, {len(baseline)} of the baseline")
    if min(*candidate, *baseline) <= 0:
        raise DeviceError("a round's median time is 0 ns", hint="the target's clock is too coarse for this model")
    logarithms: NDArray[Any] = np.log(np.asarray(candidate, float) / np.asarray(baseline, float))
    return logarithms


def latency_ratio(candidate_ns: Sequence[float], baseline_ns: Sequence[float], seed: int = 0) -> Ratio:
    """Return the median over rounds of candidate / baseline, computed on logarithms, with its bootstrap interval.

    Both sides have one time per round. The interval is B. Efron's percentile interval (An Introduction to the
    Bootstrap, 1993, chapter 13) over rounds, its random numbers from `seed`: equal times give equal intervals.
    """
    import numpy as np

    # On logarithms, so that exchanging the sides inverts the ratio.
    logs = log_ratios(candidate_ns, baseline_ns)
    picks = np.random.default_rng(seed).integers(0, len(logs), (RESAMPLES, len(logs)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.median(logs[picks], axis=1), (tail, 1 - tail))
    return Ratio(float(np.exp(np.median(logs))), float(np.exp(low)), float(np.exp(high)), len(logs))


def noise_floor(candidate_ns: Sequence[float], baseline_ns: Sequence[float], seed: int = 0) -> float | None:
    """Return how far from 1 a model's ratio to itself is in 95 of 100 such comparisons; None for one round.

    An A/A check at no cost: in the order A B B A A B … each side is measured twice in a row, and such neighbors are
    fresh processes of one model, adjacent like the two sides of a round. Their log-ratios, with either sign, are
    resampled into comparisons of as many rounds.
    """
    import numpy as np

    log_ratios(candidate_ns, baseline_ns)  # refuses invalid input
    if len(candidate_ns) < 2:
        return None
    sides = (candidate_ns, baseline_ns)  # round 0 ends with the candidate, round 1 with the baseline, and so on
    neighbors = [math.log(sides[i % 2][i + 1] / sides[i % 2][i]) for i in range(len(candidate_ns) - 1)]
    generator, shape = np.random.default_rng(seed), (RESAMPLES, len(candidate_ns))
    drawn = np.asarray(neighbors)[generator.integers(0, len(neighbors), shape)] * generator.choice((-1, 1), shape)
    return float(np.expm1(np.quantile(np.abs(np.median(drawn, axis=1)), CONFIDENCE)))


def rounds_apart(candidate_ns: Sequence[float], baseline_ns: Sequence[float]) -> dict[int, float]:
    """Return the outlying rounds by index, with their ratio: to be shown, not dropped."""
    import numpy as np

    logs = log_ratios(candidate_ns, baseline_ns)
    low, high = np.quantile(logs, (0.25, 0.75))
    reach = FENCE * (high - low)
    apart = np.flatnonzero((logs < low - reach) | (logs > high + reach))
    return {int(index): float(np.exp(logs[index])) for index in apart}


def signed_rank_p(candidate_ns: Sequence[float], baseline_ns: Sequence[float]) -> float:
    """Return the two-sided p-value that both sides are equal: F. Wilcoxon's signed-rank test (1945) of the log-ratios.

    Exact for up to fifty rounds without ties. Ten rounds give at least 0.002.
    """
    from scipy.stats import wilcoxon  # half a second: only if several models are compared

    logs = log_ratios(candidate_ns, baseline_ns)
    # Rounds without any difference have no ranks.
    return float(wilcoxon(logs).pvalue) if logs.any() else 1.0


def significant(p_values: Sequence[float], level: float = SIGNIFICANCE) -> tuple[bool, ...]:
    """Return which of several p-values are jointly significant: S. Holm (1979), at most `level` chance of one error."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    rejected, rejecting = [False] * len(p_values), True
    for rank, index in enumerate(order):
        # Holm's procedure ends at the first that is not significant, whatever comes after it.
        rejecting = rejecting and p_values[index] <= level / (len(order) - rank)
        rejected[index] = rejecting
    return tuple(rejected)


def latency_quantile_ns(rounds: Sequence[Sequence[int]], share: float) -> float:
    """Return the time within which `share` of all inferences stay, each round weighted equally, in nanoseconds.

    Fast rounds hold more samples, since they last equally long; unweighted they would pull the quantile down.
    """
    import numpy as np

    samples = np.concatenate([np.asarray(samples, float) for samples in rounds])
    weights = np.concatenate([np.full(len(samples), 1 / len(samples)) for samples in rounds])
    # The one method for which numpy takes weights.
    return float(np.quantile(samples, share, weights=weights, method="inverted_cdf"))


def verdict(ratio: Ratio, tolerance: float, floor: float = 0.0, *, differs: bool = True) -> Verdict:
    """Decide whether the candidate is slower by more than `tolerance` (0.05 is 5 %), isn't, or can't be told.

    Below the noise `floor` a tolerance decides nothing: then only an interval wholly above the floor is a regression.
    `differs` is whether the difference is also significant among several models compared at once.
    """
    if tolerance < floor:
        return "regression" if differs and ratio.low > 1 + floor else "inconclusive"
    if differs and ratio.low > 1 and ratio.point > 1 + tolerance:
        return "regression"
    return "ok" if ratio.high < 1 + tolerance else "inconclusive"
