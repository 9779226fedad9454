"""Check what is passed on of a library's exception."""

from pathlib import Path

import pytest

from pipeline.cli import _report
from pipeline.errors import PLEASE_REPORT, StageError, reason_of


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


@pytest.mark.parametrize("hint", [PLEASE_REPORT, "take another scheme"])
def test_the_log_that_a_report_needs_is_written_and_named(hint, capsys):
    try:
        try:
            raise ValueError("nobody foresaw this")
        except ValueError as cause:
            raise StageError("prune failed", where="prune", hint=hint) from cause
    except StageError as error:
        _report(error)
    said = capsys.readouterr().err.splitlines()
    assert said[:3] == ["error: prune failed", "  prune", f"  {hint}"]
    if hint != PLEASE_REPORT:
        assert len(said) == 3
        return
    log = Path(said[3].removeprefix("  log: "))
    text = log.read_text()
    log.unlink()
    assert "ValueError: nobody foresaw this" in text
    assert "StageError: prune failed" in text
