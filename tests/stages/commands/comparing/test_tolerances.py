import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RecipeError
from stages.commands.comparing.tolerances import read_tolerances


def test_what_is_not_said_has_its_own_value():
    found = read_tolerances(())
    assert (found.of("latency"), found.of("size"), found.of("accuracy")) == (0.05, 0.05, 0.01)


def test_one_for_all_and_one_for_one():
    found = read_tolerances(("2 %", "size=0%", "accuracy=0.005"))
    assert found.of("latency") == found.of("instructions") == 0.02
    assert (found.of("size"), found.of("accuracy")) == (0, 0.005)


@given(st.floats(0, 99, allow_nan=False))
def test_percent_and_shares_say_the_same(percent):
    assert read_tolerances((f"{percent}%",)).general == read_tolerances((repr(percent / 100),)).general


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("-3%", "a tolerance can't be -3%"),
        ("-0.1", "a tolerance can't be -0.1"),
        ("nan", "a tolerance can't be nan"),
        ("inf%", "a tolerance can't be inf%"),
        ("much", "'much' is not a tolerance"),
        ("latncy=5%", "'latncy' is not a metric"),
        ("5", "5 would be 500%"),
    ],
)
def test_what_can_not_be_meant_is_refused(text, what):
    with pytest.raises(RecipeError) as caught:
        read_tolerances((text,))
    assert caught.value.what == what
    assert caught.value.where == f"--tolerance {text}"
    assert caught.value.hint
