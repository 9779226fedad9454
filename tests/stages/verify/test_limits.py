"""Test bounds on parity, by scheme: what breaks one, and what a recipe changes of them."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.records.facts import ParityRow
from stages.verify.config import Bounds, Tolerances
from stages.verify.limits import doubts, violation

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
    assert given.int8 == Bounds(min_cosine=0.95, min_sqnr_db=12.0, min_decided_agreement=0.9, min_top1_agreement=0.9)
    assert given.float32 == Bounds()
    assert given.float16 == Tolerances().float16
    assert violation(PARITY, given.float32) is None
    made_up = PARITY.model_copy(update={"inputs": "noise", "cosine": 0.5})
    assert violation(made_up, given.int8) is None
    assert violation(made_up, Bounds(adversarial_min_cosine=0.6)) is not None


@pytest.mark.parametrize(
    ("scheme", "found", "holds"),
    [
        ("int8", 9.0, False),
        ("int8", 13.0, True),
        ("dynamic", 9.0, False),
        ("int16x8", 13.0, False),
        ("weight_only", 13.0, False),
        ("weight_only", 24.0, True),
    ],
)
def test_noise_of_an_eighth_of_the_power_is_no_sound_quantization(scheme: Any, found: float, holds: bool) -> None:
    row = PARITY.model_copy(update={"sqnr_db": found})
    violated = violation(row, Tolerances().of(scheme))
    assert (violated is None) is holds
    if violated is not None:
        assert violated.setting == "min_sqnr_db"
        assert f"signal-to-noise ratio (dB) is {found:g}" in violated.said


@pytest.mark.parametrize(
    ("agreed", "decided", "fails", "doubtful"),
    [
        (256, 256, False, False),
        (200, 256, True, False),
        (222, 256, False, True),
        (13, 16, False, True),
        (8, 16, True, False),
        (0, 0, False, False),
    ],
)
def test_a_share_fails_only_where_its_whole_interval_is_below(
    agreed: int, decided: int, fails: bool, doubtful: bool
) -> None:
    row = PARITY.model_copy(update={"decided": decided, "decided_agreed": agreed})
    violated = violation(row, Tolerances().int8)
    assert (violated is not None) is fails
    if violated is not None:
        assert violated.setting == "min_decided_agreement"
        assert f"({agreed} of {decided}), at least 0.9" in violated.said
    assert any("too few to tell" in doubt for doubt in doubts(row, Tolerances().int8)) is doubtful


def test_errors_that_rival_what_outputs_differ_by_between_samples_are_told() -> None:
    alike = PARITY.model_copy(update={"samples": 64, "sqnr_db": 41.0, "variation_db": -0.6})
    assert violation(alike, Tolerances().int8) is None
    (said,) = doubts(alike, Tolerances().int8)
    assert said.startswith("the file is off by 107% of what output ")
    assert "does not tell samples apart" in said
    assert doubts(alike.model_copy(update={"variation_db": 24.0}), Tolerances().int8) == []
    assert doubts(alike.model_copy(update={"samples": 4}), Tolerances().int8) == []  # too few to say so
