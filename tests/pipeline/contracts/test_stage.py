import pytest

from pipeline.contracts.stage import Axis, StageConfig


@pytest.mark.parametrize(
    ("form", "branch", "place"),
    [
        ("{element}", None, "int8"),
        ("{element}/{branch}", "ladder", "int8/ladder"),
        ("{branch}@{element}", "tflite/int8", "tflite/int8@int8"),
        ("{branch}@{element}", "tflite/{element}", "tflite/{element}@int8"),  # names are no forms
    ],
)
def test_a_place_is_formed_of_element_and_branch(form, branch, place):
    assert Axis("schemes", form).place("int8", branch) == place


def test_settings_are_the_same_at_each_step_unless_a_stage_says_otherwise():
    config = StageConfig()
    assert config.at_step(lambda share: share / 2) is config
    assert config.by_element() == {}
