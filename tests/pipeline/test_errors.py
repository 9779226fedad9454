"""Check what is passed on of a library's exception."""

import pytest

from pipeline.errors import first_few, numbered, reason_of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("\n shapes differ\n(3,) and (4,)"), "shapes differ"),
        (AssertionError(), "AssertionError"),  # says nothing at all
        (OSError("x" * 1000), "x" * 300),
        (KeyError("input_2"), "'input_2' is missing"),
        (
            ValueError(
                "Exception encountered when calling layer \"f\" (type Lambda).\n\nname 'y' is not defined\n\nCall"
            ),
            "Exception encountered when calling layer \"f\" (type Lambda). name 'y' is not defined",
        ),
        (
            ValueError("Exception encountered when calling Lambda.call().\n\n\x1b[1mname 'y' is not defined\x1b[0m\n"),
            "Exception encountered when calling Lambda.call(). name 'y' is not defined",
        ),
    ],
)
def test_the_first_line_or_the_type(error, reason):
    assert reason_of(error) == reason


def test_a_count_of_one_is_singular():
    assert [numbered(number, "problem") for number in (0, 1, 2)] == ["0 problems", "1 problem", "2 problems"]


def test_of_many_names_the_first_few_are_given():
    assert [first_few("abcd"[:count]) for count in (0, 1, 3, 4)] == ["", "a", "a, b, c", "a, b, c and 1 more"]
