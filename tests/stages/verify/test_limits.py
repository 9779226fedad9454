"""Bounds on parity, by scheme: what breaks one, and what a recipe changes of them."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.artifacts import ParityRow
from stages.verify import Bounds, Tolerances
from stages.verify.limits import violation

PARITY = ParityRow(
    inputs="test", output="y", sqnr_db=20.0, top5_agreement=None,
    samples=4, reference_max_abs=2.0, worst_sample=3, max_abs_diff=0.02, mean_abs_diff=0.01, cosine=0.97,
    top1_agreement=1.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("scheme", "settings", "holds"),
    [
        ("float32", {"max_diff": 0.0101}, True),
        ("float32", {"max_diff": 0.0099}, False),
        ("float16", {"max_diff": 0.0101}, True),
        ("float16", {"max_diff": 0.0099}, False),
        ("dynamic", {"min_cosine": 0.96}, True),
        ("dynamic", {"min_cosine": 0.98}, False),
        ("int8", {"min_cosine": 0.96}, True),
        ("int8", {"min_cosine": 0.98}, False),
    ],
)
def test_each_scheme_has_its_limit(scheme: Any, settings: dict[str, float], holds: bool) -> None:
    assert (violation(PARITY, Tolerances.model_validate({scheme: settings}).of(scheme)) is None) is holds


def test_a_tolerance_keeps_the_other_defaults_and_null_switches_off() -> None:
    given = Tolerances.model_validate_json('{"int8": {"min_top1_agreement": 0.9}, "float32": {"max_diff": null}}')
    assert given.int8 == Bounds(min_cosine=0.95, min_top1_agreement=0.9)
    assert given.float32 == Bounds()
    assert given.float16 == Tolerances().float16
    assert violation(PARITY, given.float32) is None
    made_up = PARITY.model_copy(update={"inputs": "noise", "cosine": 0.5})
    assert violation(made_up, given.int8) is None
    assert violation(made_up, Bounds(adversarial_min_cosine=0.6)) is not None
