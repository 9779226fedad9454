"""Distribute pruning over groups: one curve per scope, from 0 (nothing goes) to 1 (all goes)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.prune.choosing.allocate import Curve
from stages.prune.ranking.members import Scores

Floats = NDArray[np.float64]


def uniform(sizes: Sequence[int], source_sizes: Sequence[int]) -> Curve:
    """Remove the same share of each group of the source."""
    now, full = np.array(sizes, np.float64), np.array(source_sizes, np.float64)
    return lambda level: np.minimum(now, full * (1 - level))


def one_ranking(scores: Sequence[Scores], floors: Sequence[int]) -> Curve:
    """Remove the least important channels of the whole network first.

    Each group's best `floor` channels are excluded, so no group loses more than it can.
    """
    sizes, ranking = _sizes(scores), _owners_by_importance(scores, floors)

    def curve(level: float) -> Floats:
        return _left(sizes, ranking[: round(level * ranking.size)])

    return curve


def one_ranking_per_class(
    scores: Sequence[Scores], floors: Sequence[int], source_sizes: Sequence[int], classes: Sequence[int]
) -> Curve:
    """Remove the same share of the source's channels in each class of groups, and there the least important first.

    Only groups of one class compete, so a class with low scores is not emptied in favor of others (isomorphic pruning,
    arXiv:2407.04616). Floors are those of `one_ranking`.
    """
    sizes, ranking = _sizes(scores), _owners_by_importance(scores, floors)
    class_of, full = np.array(classes, np.int64), np.array(source_sizes, np.float64)
    rankings = [ranking[class_of[ranking] == number] for number in np.unique(class_of)]
    now_and_full = [(sizes[class_of == number].sum(), full[class_of == number].sum()) for number in np.unique(class_of)]

    def curve(level: float) -> Floats:
        # Of what an earlier step has removed already, no class loses the share again.
        gone = [max(0, round(now - whole * (1 - level))) for now, whole in now_and_full]
        lost = [ranked[:count] for ranked, count in zip(rankings, gone, strict=True)]
        return _left(sizes, np.concatenate(lost) if lost else ranking)

    return curve


def by_sensitivity(
    sizes: Sequence[int], source_sizes: Sequence[int], drops: Sequence[Sequence[tuple[float, float]]]
) -> Curve:
    """Remove from each group as many channels as cost it, alone, the same accuracy.

    `drops` has for each group pairs (ratio, accuracy lost at it), ascending; in between it is linear, and made
    monotonic, since losing more channels helps only by luck. After the last ratio it rises steeply, so that level 1
    removes everything.
    """
    now, full = np.array(sizes, np.float64), np.array(source_sizes, np.float64)
    curves = [_growing(pairs) for pairs in drops]
    worst = max((lost[-2] for _, lost in curves), default=0.0)
    # Above every measured loss, even if no ratio lost anything.
    top = 2 * worst + 1e-6

    def curve(level: float) -> Floats:
        ratios = [np.interp(level * top, np.append(lost[:-1], top), ratio) for ratio, lost in curves]
        return np.minimum(now, full * (1 - np.array(ratios)))

    return curve


def _growing(pairs: Sequence[tuple[float, float]]) -> tuple[Floats, Floats]:
    """Return ratios from 0 to 1, and the accuracy lost at each, never falling; a tiny slope keeps it invertible."""
    ratios = np.array([0.0, *(ratio for ratio, _ in pairs), 1.0])
    lost = np.maximum.accumulate(np.array([0.0, *(max(0.0, loss) for _, loss in pairs), 0.0]))
    return ratios, lost + 1e-9 * np.arange(ratios.size)


def _sizes(scores: Sequence[Scores]) -> Floats:
    return np.array([score.size for score in scores], np.float64)


def _owners_by_importance(scores: Sequence[Scores], floors: Sequence[int]) -> NDArray[np.int64]:
    """Return the group of each channel that may go, the least important first."""
    exposed = [np.sort(score)[: score.size - floor] for score, floor in zip(scores, floors, strict=True)]
    owner = np.repeat(np.arange(len(exposed)), [score.size for score in exposed])
    return owner[np.argsort(np.concatenate(exposed), kind="stable")] if exposed else owner


def _left(sizes: Floats, owners: NDArray[np.int64]) -> Floats:
    """Return how many channels each group keeps without one for each time that it is in `owners`."""
    return np.asarray(sizes - np.bincount(owners, minlength=sizes.size), np.float64)
