from __future__ import annotations

from stages.search.answer import best_files


def test_the_front_is_of_all_files_of_all_candidates_within_the_limits(trial, goal, file):
    first = trial(0, 0.5, fitted=0.9).model_copy(
        update={"files": (file(2.0, 0.0, "a/x"), file(1.0, 0.011, "b/x"), file(0.9, 0.0, "c/x", size_bytes=5001.0))}
    )
    second = trial(1, 0.6, fitted=0.9).model_copy(update={"files": (file(1.5, 0.008, "a/x"), file(1.6, 0.008, "b/x"))})
    best = best_files([first, second], goal)
    assert [(own.number, seen.axis) for own, seen in best] == [(0, "a/x"), (1, "a/x"), (0, "b/x")]
    beyond = second.model_copy(update={"files": (file(1.5, 0.0, size_bytes=6000.0),)})
    assert [own.number for own, _ in best_files([beyond], goal)] == [1]
    assert best_files([trial(2, 0.5)], goal) == []
