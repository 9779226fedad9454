"""Compare candidates by two numbers that are to be low, a cost and a loss: the front, its area, and ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def front(candidates: Sequence[T], numbers: Callable[[T], tuple[float, float]]) -> list[T]:
    """Return the candidates that no other one beats in one number without losing in the other, the cheapest first.

    Of several with equal numbers, the first stays.
    """
    best, kept = float("inf"), list[T]()
    for candidate in sorted(candidates, key=numbers):
        loss = numbers(candidate)[1]
        if loss < best:
            best = loss
            kept.append(candidate)
    return kept


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """Return the area between a front and a reference point that is worse than all of it in both numbers.

    Points beyond the reference count nothing (Zitzler and Thiele, 1998, https://doi.org/10.1007/BFb0056872).
    """
    area, height = 0.0, reference[1]
    for cost, loss in front(points, lambda point: point):
        if cost < reference[0] and loss < height:
            area += (reference[0] - cost) * (height - loss)
            height = loss
    return area


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return Spearman's rank correlation of two numbers; None of fewer than three pairs, or where one never changes."""
    from scipy.stats import spearmanr

    columns = list(zip(*pairs, strict=True))
    if len(pairs) < 3 or any(len(set(column)) == 1 for column in columns):
        return None
    return float(spearmanr(*columns).statistic)
