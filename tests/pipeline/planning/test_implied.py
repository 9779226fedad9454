import pytest

from pipeline.errors import RecipeError
from pipeline.planning.chain import CodeOf, OutputOf


def node(built, name):
    return next(node for node in built.nodes if node.id == name)


def test_without_a_test_split_nothing_is_evaluated(recipe_file, chain):
    built = chain(
        recipe_file, ("  test: test\n", ""), ("  - verify\n", ""), ("tflite/int8.accuracy_drop", "prune.params")
    )
    assert not [n for n in built.nodes if n.stage == "evaluate"]


def test_a_control_is_tuned_as_often_as_the_model_is(recipe_file, chain):
    twice = ("  - strip\n", "  - prune: {ratio: 0.2}\n  - finetune: {epochs: 2}\n  - strip\n")
    built = chain(recipe_file, twice)
    assert [n.id for n in built.nodes if n.stage == "finetune"] == [
        "finetune[1]",
        "control[1]",
        "finetune[2]",
        "control",
    ]
    assert node(built, "control").inputs["model"] == OutputOf("control[1]", "keras-model")
    assert node(built, "control").config.epochs == 2
    assert node(built, "prune[2]").inputs["model"] == OutputOf("finetune[1]", "keras-model")


def test_the_control_is_not_regularized_for_a_cut_that_it_does_not_get(recipe_file, chain):
    sparse = ("  - prune:", "  - finetune: {epochs: 3, regularize: {groups: 0.3}}\n  - prune:")
    built = chain(recipe_file, sparse)
    assert node(built, "finetune[1]").config.regularize.groups == 0.3
    assert node(built, "control[1]").config.regularize is None
    assert node(built, "control[1]").config.epochs == 3


def test_evaluations_get_the_recipe_s_metrics_and_the_user_s_modules(recipe_file, chain):
    with_metrics = ("  test: test\n", '  test: test\n  metrics: [top_2, confusion_matrix, "mine:spread"]\n')
    gate = ('"tflite/int8.accuracy_drop", max: 0.5', '"tflite/int8.top_2_drop", max: 0.5')
    built = chain(recipe_file, with_metrics, gate)
    for name in ("evaluate:source", "evaluate:strip", "verify:onnx/int8"):
        found = node(built, name)
        assert found.config.metrics == ("top_2", "confusion_matrix", "mine:spread")
        assert found.inputs["module mine"] == CodeOf("mine:spread")
    chain(recipe_file, with_metrics, (gate[0], '"strip.spread", max: 0.5'))
    with pytest.raises(RecipeError, match="strip has no metric 'confusion_matrix'"):
        chain(recipe_file, with_metrics, (gate[0], '"strip.confusion_matrix", max: 0.5'))


def test_only_the_source_is_held_against_chance(recipe_file, chain):
    built = chain(recipe_file)
    checked = {n.id: n.config.check_preprocess for n in built.nodes if n.stage == "evaluate"}
    assert {name for name, on in checked.items() if on} == {"evaluate:source"}
    assert len(checked) > 1
    built = chain(recipe_file, ("  test: test\n", "  test: test\n  check_preprocess: false\n"))
    assert not node(built, "evaluate:source").config.check_preprocess
