from __future__ import annotations

from dataclasses import replace

import pytest

from stages.search.measuring import Against
from stages.search.study import Found
from stages.search.verdict import FinalFigures, Point, chosen_of, loss, verdict_of


@pytest.fixture
def point(file):
    def make(drop, tested=None, pruned=True, letter="A"):
        test = None
        if tested is not None:
            test = FinalFigures(accuracy=0.9 - tested, drop=tested, cost=1.0, size_bytes=1.0, against=None)
        return Point(
            letter=letter,
            axis="tflite/int8",
            recipe=f"{letter}.yaml",
            settings={},
            pruned=pruned,
            validation=file(1.0, drop),
            test=test,
        )

    return make


def found(goal, **changed):
    known = {
        "trials": (),
        "finalists": (),
        "unpruned": None,
        "foreseen": (),
        "source": 0.9,
        "control": 0.9,
        "seconds": 1.0,
        "ran_out": False,
        "samples": 400,
        "chance": 0.0,
    }
    return Found(goal, **{**known, **changed})


def test_a_point_that_is_chosen_is_told_with_what_test_data_say(goal, point):
    chosen = point(0.009, 0.008)
    assert verdict_of(found(goal), [chosen], chosen, {}) == (
        "A is the best within 1 point (test data, read once: -0.8 points)"
    )
    lucky = point(0.009, 0.013)
    assert "that is more than the goal, and validation data said -0.9 points" in verdict_of(
        found(goal), [lucky], lucky, {}
    )


def test_a_point_that_keeps_the_goal_with_chance_to_spare_comes_first(goal, point):
    safe, lucky = point(0.005, 0.006), point(0.009, 0.008, letter="B")
    assert chosen_of([safe, lucky], goal, 0.0) is lucky
    assert chosen_of([safe, lucky], goal, 0.004) is safe
    assert chosen_of([safe, lucky], goal, 0.006) is lucky  # neither has it
    known = found(goal, chance=0.004)
    assert verdict_of(known, [safe, lucky], safe, {}).startswith(
        "A is the best within 1 point with 0.4 to spare for chance (test data, read once: -0.6 points)"
    )
    assert "B is the best within 1 point, by less than chance (0.4) (test" in verdict_of(known, [lucky], lucky, {})


def test_a_control_that_loses_too_much_makes_the_goal_unreachable(goal, point):
    text = verdict_of(found(goal, control=0.888), [point(0.013)], None, {"tflite/int8": 0.001, "onnx/int8": 0.002})
    assert text.startswith("not reachable: the control itself loses 1.2 points with this training")
    assert "the source untouched loses 0.1 in its best file; nearest: A at -1.3 points" in text


def test_where_the_unpruned_model_is_the_answer_it_says_why_no_pruned_one_is(goal, point):
    plain, missed = point(0.002, 0.002, pruned=False), point(0.013, letter="B")
    assert chosen_of([missed, plain], goal, 0.0) is plain
    assert verdict_of(found(goal), [missed, plain], plain, {}) == (
        "A, the unpruned model in tflite/int8, is the best within 1 point; a pruned one: not reached: 0 candidates "
        "were tried; nearest: B at -1.3 points; more trials, more epochs or a larger drop would help"
    )


def test_without_a_point_it_says_why(goal, point, trial):
    failed = trial(0, 0.5, "failed").model_copy(update={"reason": "the converter ended"})
    assert verdict_of(found(goal, trials=(failed,)), [], None, {}) == "not reached: the converter ended"
    assert verdict_of(found(goal, ran_out=True), [], None, {}) == (
        "not reached: the time ran out before a candidate was trained; more minutes would help"
    )
    assert "the time ran out; nearest: A at -2.0 points" in verdict_of(
        found(goal, ran_out=True), [point(0.02)], None, {}
    )


def test_a_loss_that_is_not_known_comes_last(file):
    assert loss(file(1.0, 0.5)) < loss(file(1.0, 0.0).model_copy(update={"drop": None}))


def test_what_costs_no_less_than_the_source_is_not_chosen(goal, point):
    slower = point(0.0, 0.0)
    slower = slower.model_copy(update={"test": slower.test.model_copy(update={"against": Against(ratio=1.02)})})
    assert chosen_of([slower], goal, 0.0) is None
    assert (
        verdict_of(found(goal), [slower], None, {}) == "not reached: within 1 point nothing costs less than the source"
    )
    fine = point(0.005, 0.005)
    assert chosen_of([fine, slower], goal, 0.0) is fine
    assert chosen_of([fine], replace(goal, max_drop=None), 0.0) is None
