"""What tells which of two files is faster; what files lose is checked in `test_budget.py`, on a file that was made."""

from __future__ import annotations

from stages.quantize.tries import speed_ratios


def test_files_are_compared_by_latency_or_instructions_and_not_by_what_else_has_a_ratio() -> None:
    assert {"latency_ratio", "instruction_ratio"} <= set(speed_ratios())
    assert "arena_ratio" not in speed_ratios()
