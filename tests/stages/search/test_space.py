from __future__ import annotations

import pytest

from pipeline.errors import RecipeError
from pipeline.recipe.search_spec import Interval, SearchSpec
from pipeline.store import Store
from stages.search.candidates import Candidate
from stages.search.goal import goal_of
from stages.search.levels import levels_of
from stages.search.space import in_brief, on_device, space_of
from stages.search.study import Study
from stages.search.workers import Here


def spaced(recipe):
    spec = recipe.search or SearchSpec()
    return space_of(recipe, spec, goal_of(recipe, spec), levels_of(recipe))


def test_by_default_the_macs_the_criterion_and_the_training_vary(searched):
    space = spaced(searched())
    assert space.budget == "stages.prune.macs"
    assert space.dimensions == {
        "stages.prune.criterion": ("obs", "taylor", "hessian"),
        "stages.prune.round_to": (1, 4, 8),
        "stages.finetune.epochs": (1, 2, 4),
        "stages.finetune.learning_rate": (0.0003, 0.001, 0.002),
        "stages.finetune.distill.weight": (0.5, 0.8, 1.0),
    }
    assert space.usual["stages.finetune.epochs"] == 2
    assert space.fixed == {}


def test_what_the_recipe_says_is_among_the_choices(searched):
    prune = "  - prune: {criterion: obs, scope: loss, macs: 0.6, round_to: 2}"
    recipe = searched(prune=prune, finetune="  - finetune: {epochs: 2, distill: {weight: 0.7}}")
    space = spaced(recipe)
    assert space.dimensions["stages.prune.round_to"] == (1, 2, 4, 8)
    assert space.dimensions["stages.finetune.distill.weight"] == (0.5, 0.7, 0.8, 1.0)
    assert all(space.usual[key] in choices for key, choices in space.dimensions.items())


def test_what_the_recipe_says_beyond_the_users_space_gives_way_to_it(searched):
    own = {
        "stages.finetune.epochs": "[7, 9]",
        "stages.finetune.learning_rate": "{low: 0.00001, high: 0.0001}",
        "stages.finetune.batch": "{low: 100, high: 200}",
        "stages.finetune.mixup": "{low: 0.1, high: 0.4}",
    }
    space = ", ".join(f"{key}: {dimension}" for key, dimension in own.items())
    assert list(spaced(searched(f"{{space: {{{space}}}}}")).usual.values()) == [7, 0.0001, 100, 0.1]


def test_another_budget_takes_the_place_of_the_recipes_own(searched):
    recipe = searched("{space: {stages.prune.params: {low: 0.2, high: 0.9}, seed: [1, 2]}}")
    space = spaced(recipe)
    assert (space.budget, space.bounds) == ("stages.prune.params", Interval(low=0.2, high=0.9))
    assert (space.dimensions, space.fixed) == ({"seed": (1, 2)}, {"stages.prune.macs": None})
    made = Candidate(recipe.source.file, {**space.fixed, space.budget: 0.3, "seed": 2}).recipe()
    (prune,) = [step.config for step in made.steps if step.stage == "prune"]
    assert (prune.macs, prune.params, made.seed) == (None, 0.3, 2)


def test_instructions_are_met_where_they_are_counted(searched):
    recipe = searched(
        "{objectives: [tflite/int8@cortex-a72.instructions]}", benchmark="  - benchmark: {targets: [cortex-a72]}"
    )
    space = spaced(recipe)
    assert space.budget == "stages.prune.instructions"
    assert space.fixed == {
        "stages.prune.macs": None,
        "stages.prune.measure_on": {"target": "cortex-a72", "format": "tflite", "scheme": "int8"},
        "stages.prune.tolerance": 1.0,
    }


def test_a_latency_is_measured_in_the_file_that_is_fastest(searched):
    recipe = searched("{objectives: [latency_ms]}")
    goal, levels = goal_of(recipe, SearchSpec(objectives=("latency_ms",))), levels_of(recipe)
    space = on_device(spaced(recipe), recipe, goal, levels, "onnx/float32")
    assert space.budget == "stages.prune.latency"
    made = Candidate(recipe.source.file, {**space.fixed, **space.usual, space.budget: 0.4}).recipe()
    prune = next(step.config for step in made.steps if step.stage == "prune")
    assert (prune.macs, prune.latency, prune.tolerance) == (None, 0.4, 1.0)
    assert (prune.measure_on.target, prune.measure_on.format, prune.measure_on.scheme) == ("cpu", "onnx", "float32")


def test_a_mixed_scheme_is_measured_as_a_mixed_one(searched):
    schemes = "  - quantize: {schemes: [int8, {fast: {scheme: int8, faster_on: cpu}}]}"
    recipe = searched("{objectives: [latency_ms]}", quantize=schemes)
    goal, levels = goal_of(recipe, SearchSpec(objectives=("latency_ms",))), levels_of(recipe)
    measured = {
        name: on_device(spaced(recipe), recipe, goal, levels, f"tflite/{name}").fixed["stages.prune.measure_on"]
        for name in ("int8", "fast")
    }
    plain = {"target": "cpu", "format": "tflite", "scheme": "int8"}
    assert measured == {"int8": plain, "fast": {**plain, "mixed": True}}


def test_candidates_that_are_not_trained_share_one_search(searched):
    alike, obs = "stages.prune.search_at", "criterion: obs, scope: loss"
    untrained = searched("{objectives: [latency_ms]}", finetune="")
    assert spaced(untrained).fixed == {alike: 0.5}
    measured = on_device(
        spaced(untrained), untrained, goal_of(untrained, untrained.search), levels_of(untrained), "onnx/float32"
    )
    assert measured.fixed[alike] == 0.5
    for prune in (f"{{{obs}, search: 0, macs: 0.5}}", f"{{{obs}, search_at: 0.3, macs: 0.5}}", "{macs: 0.5}"):
        assert alike not in spaced(searched(prune=f"  - prune: {prune}", finetune="")).fixed
    varied = "{space: {stages.prune.macs: {low: 0.2, high: 0.9}, stages.prune.search: [0, 50]}}"
    assert alike not in spaced(searched(varied, finetune="")).fixed


def test_in_brief_nothing_is_searched_and_hardly_anything_trained(searched):
    recipe = searched(prune="  - prune: {criterion: obs, scope: loss, search_at: 0.3, macs: 0.5}")
    made = Candidate(recipe.source.file, in_brief(recipe)).recipe()
    configs = {step.id: step.config for step in made.steps}
    assert (configs["prune"].search, configs["prune"].search_at, configs["finetune"].epochs) == (0, None, 1)


@pytest.mark.parametrize("axis", ["tflite/dynamic", "c/int8"])
def test_where_no_layer_can_be_probed_the_macs_are_what_counts(searched, axis):
    recipe = searched()
    goal = goal_of(recipe, SearchSpec())
    assert on_device(spaced(recipe), recipe, goal, levels_of(recipe), axis) == spaced(recipe)


def test_a_budget_of_the_user_stays(searched):
    recipe = searched("{space: {stages.prune.macs: {low: 0.2, high: 0.9}}}")
    space = on_device(spaced(recipe), recipe, goal_of(recipe, SearchSpec()), levels_of(recipe), "tflite/int8")
    assert space.budget == "stages.prune.macs"


def test_a_ratio_is_no_budget_since_more_of_it_leaves_less(searched):
    with pytest.raises(RecipeError, match="how much is left") as caught:
        spaced(searched("{space: {stages.prune.ratio: {low: 0, high: 0.9}}}"))
    assert "search.space.stages.prune.ratio" in str(caught.value.where)


def test_bounds_in_whole_numbers_are_real_ones(searched):
    space = spaced(searched("{space: {stages.prune.bytes: {low: 20000, high: 90000}}}"))
    assert [type(end) for end in (space.bounds.low, space.bounds.high)] == [float, float]


def test_two_budgets_and_choices_of_one_are_refused(searched):
    with pytest.raises(RecipeError, match="say the same thing"):
        spaced(
            searched("{space: {stages.prune.params: {low: 0.2, high: 0.9}, stages.prune.macs: {low: 0.2, high: 0.9}}}")
        )
    with pytest.raises(RecipeError, match="needs bounds"):
        spaced(searched("{space: {stages.prune.macs: [0.2, 0.9]}}"))


def test_values_that_are_not_allowed_are_refused_where_they_stand_as_it_is_read(searched, tmp_path):
    recipe = searched("{space: {stages.prune.criterion: [obs, blah]}}")
    with pytest.raises(RecipeError, match="blah") as caught:
        Study(Candidate(recipe.source.file, {}), Store(tmp_path / "store"), Here(Store(tmp_path / "store")))
    assert "search.space.stages.prune.criterion" in str(caught.value.where)
    recipe = searched("{space: {stages.finetune.epochs: [1]}}", finetune="")
    with pytest.raises(RecipeError, match="no stage 'finetune'") as caught:
        Study(Candidate(recipe.source.file, {}), Store(tmp_path / "store"), Here(Store(tmp_path / "store")))
    assert "search.space.stages.finetune.epochs" in str(caught.value.where)
