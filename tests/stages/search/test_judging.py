from __future__ import annotations

from dataclasses import replace

import pytest

from stages.search.judging import FINALISTS, Judge, most_finalists
from stages.search.levels import levels_of


@pytest.fixture
def judge(goal, searched):
    return Judge(goal, levels_of(searched()))


def test_the_cheapest_that_meets_the_goal_was_trained(judge, trial):
    met, missed = trial(0, 0.5, fitted=0.7, trained=0.895), trial(1, 0.3, fitted=0.5, trained=0.88)
    untrained = trial(2, 0.2, fitted=0.9)
    assert judge.meets(met)
    assert not judge.meets(missed)
    assert judge.cheapest_that_meets([met, missed, untrained]) is met
    assert judge.cheapest_that_meets([missed]) is None


def test_what_the_file_loses_by_itself_is_left_to_it_up_to_half_of_the_goal(judge, trial):
    assert [replace(judge, file_loss=loss).most for loss in (-0.003, 0.002, 0.02)] == pytest.approx(
        [0.01, 0.008, 0.005]
    )
    assert replace(judge, file_loss=0.002, chance=0.001).most == pytest.approx(0.007)
    near = trial(0, 0.5, fitted=0.8, trained=0.891)  # 0.009 are lost
    assert judge.meets(near)
    assert not replace(judge, file_loss=0.002).meets(near)


def test_a_candidate_has_to_spare_what_its_file_and_chance_may_take(judge, trial):
    safe, near, none = (trial(0, 0.5, trained=accuracy) for accuracy in (0.896, 0.893, 0.9))
    careful = replace(judge, file_loss=0.002, chance=0.003)  # half a point is left
    assert [careful.has_to_spare(one) for one in (safe, near, none)] == [True, False, True]
    assert replace(judge, chance=0.02).has_to_spare(none)
    assert not replace(judge, chance=0.02).has_to_spare(safe)
    assert not careful.has_to_spare(trial(0, 0.5, fitted=0.9))


def test_what_training_gives_back_is_learned(judge, trial):
    known = [trial(0, 0.5, fitted=0.7, trained=0.85), trial(1, 0.4, fitted=0.5, trained=0.8)]  # a quarter is left
    new = trial(2, 0.3, fitted=0.5)
    assert judge.expected_drop(new, []) == pytest.approx(0.2)
    assert judge.expected_drop(new, known) == pytest.approx(0.1)
    assert judge.expected_drop(known[0], known) == pytest.approx(0.05)
    assert judge.expected_drop(trial(3, 0.3), known) is None


def test_a_score_is_the_cost_unless_too_much_is_lost(judge, trial):
    assert judge.score(trial(0, 0.5, fitted=0.8, trained=0.895), []) == 0.5
    assert judge.score(trial(0, 0.5, fitted=0.8, trained=0.88), []) == pytest.approx(1.0)  # twice the drop allowed
    assert Judge(replace(judge.goal, max_drop=None), judge.levels).score(trial(0, 0.5, trained=0.8), []) is None


def test_a_candidate_is_behind_what_costs_no_more_and_was_more_accurate_before_training(judge, trial):
    known = [trial(0, 0.5, fitted=0.8, trained=0.81), trial(1, 0.3, fitted=0.6, trained=0.9), trial(2, 0.2, "failed")]
    assert judge.is_behind(trial(3, 0.5, fitted=0.79), known)
    assert judge.is_behind(trial(3, 0.4, fitted=0.59), known)
    assert not judge.is_behind(trial(3, 0.4, fitted=0.79), known)
    assert not judge.is_behind(trial(3, 0.5, fitted=0.8), known)
    assert not judge.is_behind(trial(3, 0.5), known)
    assert not judge.is_behind(known[0], known)


def test_finalists_are_those_about_the_border(judge, trial):
    trials = [trial(n, share, trained=0.9 - (1 - share) / 21) for n, share in enumerate(x / 20 for x in range(2, 20))]
    chosen = judge.finalists(trials)
    shares = [one.settings["stages.prune.macs"] for one in chosen]
    assert len(chosen) == FINALISTS
    assert shares == [0.8, 0.85, 0.9, 0.95, 0.75]
    few = judge.finalists(trials, 2)
    assert [one.settings["stages.prune.macs"] for one in few] == [0.8, 0.75]  # one on each side of the border
    assert judge.finalists([trial(0, 0.5, "failed")]) == []


def test_few_candidates_have_few_finalists():
    assert [most_finalists(trials) for trials in (1, 4, 15, 40)] == [2, 2, 3, FINALISTS]
