"""Check the report of counts: ratios of what can be compared, with the interval of the target."""

from __future__ import annotations

import json

import pytest

from stages.benchmark.counted import counts_document, facts_of, intervals_of, metrics_of
from stages.devices.counts import Counts
from stages.devices.target import find_target

DECLARED = find_target("cortex-a72").metrics


def counted(instructions: float, **changes) -> Counts:
    usual = {
        "target": "cortex-a72",
        "runtime": "litert 2.3.0",
        "metrics": {"instructions": instructions, "instructions_simd": 5.0},
        "main": "instructions",
        "spread": 0.01,
        "estimated": False,
    }
    return Counts.model_validate(usual | changes)


def test_the_ratio_has_an_interval_as_wide_as_both_counts_differ() -> None:
    candidate, baseline = counted(50.0), counted(200.0, spread=0.03)
    metrics = metrics_of(candidate, baseline, 1234, DECLARED)
    assert metrics == {
        "instructions": 50.0,
        "instructions_simd": 5.0,
        "size_bytes": 1234.0,
        "baseline_instructions": 200.0,
        "instruction_ratio": 0.25,
    }
    assert intervals_of(candidate, baseline, metrics, DECLARED) == {
        "instructions": pytest.approx((49.5, 50.5)),
        "instruction_ratio": pytest.approx((0.24, 0.26)),
    }
    assert intervals_of(counted(50.0, spread=0.0), baseline, metrics, DECLARED) == {}


@pytest.mark.parametrize("changes", [{"left_out": ("MEAN",)}, {"main": None}])
def test_numbers_that_leave_out_other_operators_or_have_no_main_one_have_no_ratio(changes) -> None:
    candidate, baseline = counted(50.0, **changes), counted(200.0)
    metrics = metrics_of(candidate, baseline, 1, DECLARED)
    assert metrics.keys() == {"instructions", "instructions_simd", "size_bytes"}
    assert "instruction_ratio" not in intervals_of(candidate, baseline, metrics, DECLARED)


def test_facts_and_document_hold_both_sides() -> None:
    candidate, baseline = counted(50.0), counted(200.0)
    facts = facts_of(candidate, baseline)
    assert (facts.candidate["instructions"], facts.baseline["instructions"], facts.spread) == (50.0, 200.0, 0.01)
    first = counts_document(candidate, baseline, {"b": "1", "a": "2"}, {})
    assert first == counts_document(candidate, baseline, {"a": "2", "b": "1"}, {})
    assert json.loads(first)["baseline"]["metrics"]["instructions"] == 200.0
