from __future__ import annotations

import pytest

from stages.search.foreseen import Foreseen
from stages.search.ranking import rankings_of


def test_levels_are_ranked_by_accuracy_and_predicted_cost_by_the_measured_one(trial, file):
    fitted, trained, costs = (0.5, 0.6, 0.7, 0.8), (0.8, 0.78, 0.85, 0.89), (1.0, 2.0, 4.0, 3.0)
    shares = (0.2, 0.4, 0.6, 0.8)
    trials = [
        trial(n, share, fitted=low, trained=high).model_copy(update={"files": (file(cost, 0.0),)})
        for n, (share, low, high, cost) in enumerate(zip(shares, fitted, trained, costs, strict=True))
    ]
    accuracy, cost = rankings_of(trials)
    assert (accuracy.lower, accuracy.higher, accuracy.of, accuracy.candidates) == ("fitted", "trained", "accuracy", 4)
    assert accuracy.correlation == pytest.approx(0.8)
    assert (cost.lower, cost.higher, cost.of) == ("predicted", "tflite/int8", "cost")
    assert cost.correlation == pytest.approx(0.8)
    assert rankings_of([]) == []


def test_what_was_foreseen_ranks_by_its_error(trial):
    fitted = {0.2: 0.5, 0.4: 0.8, 0.6: 0.7}
    trials = [trial(n, share, fitted=accuracy) for n, (share, accuracy) in enumerate(fitted.items())]
    foreseen = [
        Foreseen(name="", settings={"stages.prune.macs": share}, budget=share, share=share, error=error, agreement=None)
        for share, error in ((0.2, 1.5), (0.4, 0.9), (0.6, 0.8), (0.9, 0.1))
    ]
    (ranking,) = rankings_of(trials, foreseen)
    assert (ranking.lower, ranking.higher, ranking.of, ranking.candidates) == ("foreseen", "fitted", "accuracy", 3)
    assert ranking.correlation == pytest.approx(0.5)
