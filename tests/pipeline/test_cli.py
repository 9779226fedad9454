"""Check how errors end the command line."""

from pathlib import Path

import pytest

from pipeline.cli import _report
from pipeline.errors import PLEASE_REPORT, StageError


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
