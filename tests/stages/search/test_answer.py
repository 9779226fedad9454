from __future__ import annotations

from stages.search.answer import best_file


def test_the_best_file_is_the_cheapest_that_keeps_the_goal(trial, goal, file):
    slow, fast, wrong = file(2.0, 0.0, "a/x"), file(1.0, 0.01, "b/x"), file(0.5, 0.02, "c/x")
    candidate = trial(0, 0.5, fitted=0.9)
    assert best_file(candidate.model_copy(update={"files": (slow, fast, wrong)}), goal) is fast
    worse = file(0.4, 0.03, "d/x")
    assert best_file(candidate.model_copy(update={"files": (worse, wrong)}), goal) is wrong  # the most accurate
    assert best_file(candidate, goal) is None
