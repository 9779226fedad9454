"""Tell how well each level of fidelity ranked candidates, compared with the next one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pipeline.records.values import Value
from stages.search.foreseen import Foreseen
from stages.search.front import rank_correlation
from stages.search.trial import Trial, pairs_of


class Ranking(Value):
    """Hold how well a level of fidelity ranked candidates: Spearman's correlation with the next level."""

    lower: str
    higher: str
    of: Literal["accuracy", "cost"]
    candidates: int
    correlation: float | None


def rankings_of(trials: Sequence[Trial], foreseen: Sequence[Foreseen] = ()) -> list[Ranking]:
    """Return how well each level ranked accuracy against the next one, and predicted cost against the measured one.

    What was foreseen ranks by its error: agreement on the held-out samples is coarser.
    """
    first = [
        (-one.error, reached.accuracy)
        for one in foreseen
        for trial in trials
        if trial.settings == one.settings and (reached := trial.at("fitted")) and reached.accuracy is not None
    ]
    found = [_ranking("foreseen", "fitted", "accuracy", first)]
    for lower, higher in (("fitted", "trained"), ("trained", "measured")):
        pairs = [
            (low.accuracy, high.accuracy)
            for low, high in pairs_of(trials, lower, higher)  # type: ignore[arg-type]  # the levels' own names
            if low.accuracy is not None and high.accuracy is not None
        ]
        found.append(_ranking(lower, higher, "accuracy", pairs))
    for axis in dict.fromkeys(file.axis for trial in trials for file in trial.files):
        files = ((trial, file) for trial in trials for file in trial.files if file.axis == axis)
        costs = [
            (seen.share, file.cost) for trial, file in files if (seen := trial.best_known) and seen.share is not None
        ]
        found.append(_ranking("predicted", axis, "cost", costs))
    return [ranking for ranking in found if ranking.candidates]


def _ranking(lower: str, higher: str, of: Literal["accuracy", "cost"], pairs: Sequence[tuple[float, float]]) -> Ranking:
    return Ranking(lower=lower, higher=higher, of=of, candidates=len(pairs), correlation=rank_correlation(pairs))
