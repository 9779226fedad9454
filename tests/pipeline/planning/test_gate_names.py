import pytest

from pipeline.errors import RecipeError

UNLABELLED = ("  test: test\n", "  test: test\n  task: unlabelled\n")
DISTILLED = ("{epochs: 1}", "{epochs: 1, distill: {}}")


def test_a_gate_s_name_without_its_metric_and_names_are_told_once(recipe_file, chain):
    with pytest.raises(RecipeError, match="tflite/int8 has many metrics") as caught:
        chain(recipe_file, ("tflite/int8.accuracy_drop", "tflite/int8"))
    assert caught.value.hint.startswith("tflite/int8.METRIC, with one of accuracy, accuracy_drop, ")
    with pytest.raises(RecipeError, match="nothing here is called") as caught:
        chain(recipe_file, ("tflite/int8.accuracy_drop", "tflite/int9.accuracy"))
    named = caught.value.hint.removeprefix("the nearest are ").split(", ")
    assert len(named) == len(set(named))


def test_a_gate_on_what_is_measured_by_labels_is_refused(recipe_file, chain):
    with pytest.raises(RecipeError, match="tflite/int8 has no metric 'accuracy_drop'"):
        chain(recipe_file, UNLABELLED, DISTILLED)
    chain(recipe_file, UNLABELLED, DISTILLED, ("tflite/int8.accuracy_drop", "tflite/int8.max_abs_diff"))
