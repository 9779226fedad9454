import pytest

from pipeline.errors import RecipeError
from pipeline.planning.chain import OutputOf
from pipeline.planning.narrow import narrow_of
from pipeline.planning.plan import make_plan
from pipeline.recipe.recipe import Recipe

NARROW = ("control: true", "control: {narrow: true}")
STEPS = "  - prune: {ratio: 0.5}\n  - finetune: {epochs: 1}\n"
OWN = {"narrow[1]", "narrow", "evaluate:narrow"}


def node(built, name):
    return next(node for node in built.nodes if node.id == name)


def test_a_narrower_network_is_made_trained_and_evaluated_beside_the_control(recipe_file, chain):
    built = chain(recipe_file, NARROW)
    ids = [one.id for one in built.nodes]
    at = ids.index("evaluate:control")
    assert ids[at + 1 : at + 5] == ["narrow[1]", "narrow", "evaluate:narrow", "strip"]
    made, trained = node(built, "narrow[1]"), node(built, "narrow")
    assert (made.stage, trained.stage) == ("narrow", "finetune")
    assert made.inputs == {"model": OutputOf("prune", "keras-model"), "source": OutputOf("load", "keras-model")}
    assert trained.inputs["model"] == OutputOf("narrow[1]", "keras-model")
    assert node(built, "evaluate:narrow").inputs["model"] == OutputOf("narrow", "keras-model")
    # It is a yardstick, no way to a file: nothing else takes it.
    assert node(built, "strip").inputs["model"] == OutputOf("finetune", "keras-model")


@pytest.mark.parametrize("asked", ["true", "{}", "{narrow: false}"])
def test_without_it_a_recipe_has_the_actions_that_it_had(recipe_file, chain, store, asked):
    plain = chain(recipe_file, ("control: true", f"control: {asked}"))
    assert not OWN & {one.id for one in plain.nodes}
    with_it = chain(recipe_file, NARROW)
    assert [one for one in with_it.nodes if one.id not in OWN] == plain.nodes
    keys = [
        {action.id: action.key for action in make_plan(Recipe.load(recipe_file(replace=[change])), store).actions}
        for change in (("control: true", f"control: {asked}"), NARROW)
    ]
    assert keys[0]["load"] is not None
    assert keys[0].items() <= keys[1].items()


def test_a_control_that_is_off_has_no_narrower_network(recipe_file, chain):
    ids = {one.id for one in chain(recipe_file, ("control: true", "control: false")).nodes}
    assert not ids & {*OWN, "control", "evaluate:control"}


def test_it_is_as_wide_as_the_last_pruning_left_macs_for_and_trained_as_long_as_all_together(recipe_file, chain):
    steps = """\
  - prune: {ratio: 0.2}
  - finetune: {epochs: 2, learning_rate: 0.1}
  - prune: {criterion: l1, macs: 0.3, round_to: 4, min_channels: 2, exclude: ["head*"]}
  - finetune: {epochs: 3, learning_rate: 0.02, schedule: cosine}
  - prune: {method: unstructured, ratio: 0.5}
"""
    built = chain(recipe_file, NARROW, (STEPS, steps))
    made, trained = node(built, "narrow[1]"), node(built, "narrow")
    assert made.inputs["model"] == OutputOf("prune[2]", "keras-model")
    assert made.config.model_dump() == {"round_to": 4, "min_channels": 2, "exclude": ("head*",)}
    assert (trained.config.epochs, trained.config.learning_rate, trained.config.schedule) == (5, 0.02, "cosine")
    ids = [one.id for one in built.nodes]
    assert ids.index("evaluate:control") < ids.index("narrow[1]") < ids.index("prune[3]")


def test_each_step_of_a_repeat_counts(repeated):
    recipe = repeated("control.narrow=true")
    narrow = narrow_of(recipe, recipe.source_epochs)
    assert (narrow.pruning.id, narrow.after.id, narrow.training.epochs) == ("prune[3]", "finetune[3]", 3)


def test_what_stands_after_the_last_training_is_waited_for(recipe_file, chain):
    built = chain(recipe_file, NARROW, (STEPS, STEPS + "  - prune: {ratio: 0.7}\n"))
    assert node(built, "narrow[1]").inputs["model"] == OutputOf("prune[2]", "keras-model")
    assert [one.id for one in built.nodes].index("prune[2]") < [one.id for one in built.nodes].index("narrow[1]")


def test_the_source_s_own_training_counts_where_its_length_is_said(recipe_file, chain):
    built = chain(recipe_file, ("control: true", "control: {narrow: true, source_epochs: 30}"))
    assert node(built, "narrow").config.epochs == 31
    assert node(built, "control").config.epochs == 1


def test_it_has_the_teacher_that_the_pruned_model_has(recipe_file, chain):
    built = chain(recipe_file, NARROW, ("{epochs: 1}", "{epochs: 1, distill: {}}"))
    assert node(built, "narrow").inputs["teacher"] == OutputOf("load", "keras-model")


def test_gates_know_it_only_where_it_is_made(recipe_file, chain):
    for metric in ("accuracy", "accuracy_drop", "macs", "macs_ratio", "width"):
        assert chain(recipe_file, NARROW, ("tflite/int8.accuracy_drop", f"narrow.{metric}"))
    with pytest.raises(RecipeError, match="nothing here is called 'narrow'"):
        chain(recipe_file, ("tflite/int8.accuracy_drop", "narrow.accuracy"))


@pytest.mark.parametrize(
    ("replace", "words", "hint"),
    [
        ((STEPS, "  - finetune: {epochs: 1}\n"), "takes channels away", "prune channels"),
        ((STEPS, STEPS.replace("ratio: 0.5", "method: unstructured")), "takes channels away", "prune channels"),
        ((STEPS, "  - prune: {ratio: 0.5}\n"), "trains nothing", "add `- finetune`"),
    ],
)
def test_recipes_without_a_width_or_a_number_of_steps_are_refused(recipe_file, chain, replace, words, hint):
    with pytest.raises(RecipeError, match=words) as caught:
        chain(recipe_file, NARROW, replace)
    assert caught.value.what.startswith("control.narrow: ")
    assert caught.value.where.endswith("recipe.yaml:8:11   control.narrow")
    assert caught.value.hint.startswith(hint)


def test_labels_are_needed_as_for_the_recipe_s_own_training(recipe_file, chain):
    unlabelled = ("  test: test\n", "  test: test\n  task: unlabelled\n")
    gate = ("tflite/int8.accuracy_drop", "narrow.macs_ratio")
    with pytest.raises(RecipeError, match="finetune needs labels"):
        chain(recipe_file, NARROW, unlabelled, gate)
    built = chain(recipe_file, NARROW, unlabelled, gate, ("{epochs: 1}", "{epochs: 1, distill: {}}"))
    assert node(built, "narrow").config.distill is not None


def test_it_is_planned_with_its_reason_and_left_out_of_a_run_that_ends_before(recipe_file, store):
    recipe = Recipe.load(recipe_file(replace=[NARROW]))
    planned = {action.id: action for action in make_plan(recipe, store).actions}
    assert (planned["narrow[1]"].status, planned["narrow[1]"].key) == ("run", None)
    assert planned["narrow"].reason == "follows load"
    assert not OWN & {action.id for action in make_plan(recipe, store, until="prune").actions}
