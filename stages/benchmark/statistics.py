"""The statistics of latency: what is estimated from interleaved rounds, and how sure it is. Pure functions.

A round is one fresh process a side. Iterations inside one process share its memory layout, its clock and its
neighbours, so rounds are the units that are resampled, and a round counts as one number: its median.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import DeviceError

RESAMPLES = 10_000
CONFIDENCE = 0.95
SAMPLES_FOR_P99 = 1_000

Verdict = Literal["regression", "ok", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Candidate / baseline: below 1 the candidate is faster. `low` to `high` is the 95 % interval."""

    point: float
    low: float
    high: float
    rounds: int


def round_medians_ns(rounds: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """The median sample of each round, in nanoseconds."""
    import numpy as np

    return tuple(float(np.median(samples)) for samples in rounds)


def latency_ratio(candidate_ns: Sequence[float], baseline_ns: Sequence[float], seed: int = 0) -> Ratio:
    """The median over rounds of candidate / baseline, taken of the logarithms, with its percentile bootstrap interval.

    Both are one time a round, round by round. The interval is B. Efron's percentile interval (An Introduction to
    the Bootstrap, 1993, chapter 13) over rounds, its random numbers from `seed`: equal times give equal intervals.
    """
    import numpy as np

    if len(candidate_ns) != len(baseline_ns) or not candidate_ns:
        raise DeviceError(
            f"rounds don't pair: {len(candidate_ns)} of the candidate, {len(baseline_ns)} of the baseline"
        )
    if min(*candidate_ns, *baseline_ns) <= 0:
        raise DeviceError("a round's median time is 0 ns", hint="the target's clock is too coarse for this model")
    logs = np.log(np.asarray(candidate_ns, float) / np.asarray(baseline_ns, float))
    picks = np.random.default_rng(seed).integers(0, len(logs), (RESAMPLES, len(logs)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.median(logs[picks], axis=1), (tail, 1 - tail))
    return Ratio(float(np.exp(np.median(logs))), float(np.exp(low)), float(np.exp(high)), len(logs))


def latency_quantile_ns(rounds: Sequence[Sequence[int]], share: float) -> float:
    """The time that `share` of all inferences stay within, each round weighing the same, in nanoseconds.

    Fast rounds hold more samples, since they last equally long; unweighted they would pull the quantile down.
    """
    import numpy as np

    samples = np.concatenate([np.asarray(samples, float) for samples in rounds])
    weights = np.concatenate([np.full(len(samples), 1 / len(samples)) for samples in rounds])
    return float(np.quantile(samples, share, weights=weights, method="inverted_cdf"))


def verdict(ratio: Ratio, tolerance: float) -> Verdict:
    """Whether the candidate is slower by more than `tolerance` (0.05 is 5 %), isn't, or can't be told."""
    if ratio.low > 1 and ratio.point > 1 + tolerance:
        return "regression"
    return "ok" if ratio.high < 1 + tolerance else "inconclusive"
