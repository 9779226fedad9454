import pytest

from pipeline.errors import RecipeError
from pipeline.planning.label_needs import measured_by_labels

UNLABELLED = ("  test: test\n", "  test: test\n  task: unlabelled\n")
DISTILLED = ("{epochs: 1}", "{epochs: 1, distill: {}}")
NO_GATES = ('gates:\n  - {metric: "tflite/int8.accuracy_drop", max: 0.5}\n', "")


def test_without_labels_the_same_actions_compare_and_learn_from_the_source(recipe_file, chain):
    labelled = [node.id for node in chain(recipe_file).nodes]
    assert [node.id for node in chain(recipe_file, UNLABELLED, DISTILLED, NO_GATES).nodes] == labelled


@pytest.mark.parametrize(
    ("replace", "what", "hint"),
    [
        (("{epochs: 1}", "{epochs: 2}"), "finetune needs labels", "distill: {}"),
        (("- verify", "- verify: {max_accuracy_drop: 0.1}"), "verify.max_accuracy_drop needs labels", "leave it out"),
        (("- verify", "- verify: {max_mse_ratio: 2}"), "verify.max_mse_ratio needs labels", "leave it out"),
        (("- verify", "- verify: {metrics: [auc]}"), "verify.metrics needs labels", "leave it out"),
        (("{ratio: 0.5}", "{ratio: 0.5, criterion: taylor}"), "criterion taylor needs labels", "hessian"),
        (("{ratio: 0.5}", "{ratio: 0.5, scope: sensitivity}"), "scope sensitivity needs labels", "scope loss"),
        (
            ("{schemes: [float32, int8]}", "{ladder: [int8], max_accuracy_drop: 0.1}"),
            "quantize.ladder needs labels",
            "name the schemes",
        ),
        (("[float32, int8]", "[float32, {int8: {qat: {}}}]"), "qat needs labels", "calibrated"),
    ],
)
def test_what_needs_labels_is_refused_before_anything_runs(recipe_file, replace, what, hint, chain):
    distilled = () if replace[0] == DISTILLED[0] else (DISTILLED,)
    with pytest.raises(RecipeError) as caught:
        chain(recipe_file, UNLABELLED, NO_GATES, replace, *distilled)
    assert caught.value.what.endswith(f"{what}, and data.task is unlabelled")
    assert hint in caught.value.hint
    assert "recipe.yaml:" in caught.value.where


def test_metrics_of_data_without_labels_are_refused(recipe_file, chain):
    with pytest.raises(RecipeError, match="metrics need labels, and task is unlabelled"):
        chain(recipe_file, ("  test: test\n", "  test: test\n  task: unlabelled\n  metrics: [accuracy]\n"))


def test_what_reads_a_test_split_needs_one(recipe_file, chain):
    with pytest.raises(RecipeError, match="verify needs a test split, and the recipe names none") as caught:
        chain(recipe_file, ("  test: test\n", ""))
    assert "recipe.yaml:" in caught.value.where
    assert "test: {fraction: 0.2}" in caught.value.hint


def test_metrics_that_labels_are_needed_for():
    asked = ("accuracy", "top_5", "mse", "mine:score", "accuracy_drop_reference", "params", "max_abs_diff", "cosine")
    assert [name for name in asked if not measured_by_labels(name)] == ["params", "max_abs_diff", "cosine"]
