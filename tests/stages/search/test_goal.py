from __future__ import annotations

import pytest

from pipeline.errors import RecipeError
from stages.search.goal import files_and_targets, goal_of


def test_by_default_any_file_on_the_recipes_own_target(searched):
    recipe = searched("{constraints: {accuracy_drop: 0.01, size_bytes: 300000}}")
    goal = goal_of(recipe, recipe.search)
    assert files_and_targets(recipe) == (("tflite/float32", "tflite/int8"), ("cpu",))
    assert (goal.cost.name, goal.axis, goal.target) == ("latency_p50_ms", None, "cpu")
    assert (goal.max_drop, dict(goal.limits)) == (0.01, {"size_bytes": 300_000})
    assert str(goal).startswith("at most 1 point lost, size_bytes at most 300000, least latency_p50_ms on cpu")


def test_one_file_can_be_meant(searched):
    recipe = searched("{objectives: [tflite/int8@cpu.latency_ms, accuracy]}")
    goal = goal_of(recipe, recipe.search)
    assert (goal.cost.name, goal.axis, goal.target, goal.max_drop) == ("latency_p50_ms", "tflite/int8", "cpu", None)


def test_a_size_needs_no_target(searched):
    recipe = searched("{objectives: [tflite/int8.size_bytes]}", benchmark="")
    goal = goal_of(recipe, recipe.search)
    assert (goal.cost.name, goal.axis, goal.target) == ("size_bytes", "tflite/int8", None)


def refused(recipe):
    with pytest.raises(RecipeError) as caught:
        goal_of(recipe, recipe.search)
    return caught.value


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ("{objectives: [tflite/int4@cpu.latency_ms]}", "no file of this recipe is 'tflite/int4'"),
        ("{objectives: [tflite/int8@cpux.latency_ms]}", "does not measure on 'cpux'"),
        ("{objectives: [latencyms]}", "no metric is called 'latencyms'"),
        ("{objectives: [size_bytes, latency_ms]}", "one cost and one accuracy"),
        ("{constraints: {sizebytes: 3}}", "no metric is called 'sizebytes'"),
        ("{objectives: [channels_removed]}", "is no cost"),
    ],
)
def test_what_names_nothing_is_refused_where_it_stands(searched, search, words):
    error = refused(searched(search))
    assert words in error.what
    assert "small.yaml:15" in str(error.where)


@pytest.mark.parametrize(
    ("search", "hint"),
    [
        ("{constraints: {accuracy_dorp: 0.01}}", "the nearest is accuracy_drop or "),
        ("{objectives: [acuracy]}", "the nearest is accuracy"),
        ("{objectives: [zzz]}", "known: accuracy, latency_ms, size_bytes, "),
    ],
)
def test_what_is_near_or_can_be_a_cost_is_named(searched, search, hint):
    assert hint in refused(searched(search)).hint
