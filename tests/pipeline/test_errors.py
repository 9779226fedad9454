"""What is passed on of a library's exception."""

import pytest

from pipeline.errors import reason_of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("\n shapes differ\n(3,) and (4,)"), "shapes differ"),
        (AssertionError(), "AssertionError"),  # says nothing at all
        (OSError("x" * 1000), "x" * 300),
    ],
)
def test_the_first_line_or_the_type(error, reason):
    assert reason_of(error) == reason
