from dataclasses import replace

import pytest

from stages.commands.comparing.exact import _count_result, exact_result, not_comparable
from stages.commands.comparing.pairing import Pair
from stages.devices.counts import Counts
from stages.devices.metrics import INSTRUCTIONS
from stages.devices.target import find_target


@pytest.mark.parametrize(
    ("metric", "baseline", "candidate", "tolerance", "change", "verdict"),
    [
        ("size", 100.0, 105.0, 0.05, 0.05, "ok"),  # no more than rounding above the tolerance
        ("size", 100.0, 106.0, 0.05, 0.06, "regression"),
        ("size", 100.0, 50.0, 0.0, -0.5, "ok"),
        ("accuracy", 0.9, 0.88, 0.01, 0.02, "regression"),
        ("accuracy", 0.88, 0.9, 0.0, -0.02, "ok"),
        ("mse", 2.0, 3.0, None, 0.5, None),
    ],
)
def test_an_exact_number_is_worse_by_more_than_its_tolerance_or_not(
    metric, baseline, candidate, tolerance, change, verdict
):
    found = exact_result(metric, baseline, candidate, tolerance)
    assert found.change == pytest.approx(change)
    assert (found.verdict, found.interval) == (verdict, None)


def test_accuracies_are_comparable_if_both_are_known_of_the_same_data(onnx_file, operand):
    (model,) = operand(onnx_file).models
    known = replace(model, quality={"accuracy": 0.9}, tested_on="data")
    assert not_comparable(Pair("x", known, known), "accuracy") is None
    assert not_comparable(Pair("x", known, model), "accuracy") == f"accuracy of {model.label} is not known"
    assert "different test data" in not_comparable(Pair("x", known, replace(known, tested_on="other")), "accuracy")


def counted(instructions, spread):
    metrics = {"instructions": instructions}
    return Counts(target="t", runtime="r 1", metrics=metrics, main="instructions", spread=spread, estimated=False)


@pytest.mark.parametrize(
    ("candidate", "spread", "verdict"),
    [(110.0, 0.01, "regression"), (106.0, 0.01, "inconclusive"), (102.0, 0.01, "ok"), (106.0, 0.0, "regression")],
)
def test_a_count_is_judged_with_what_counts_of_one_model_differ_by(candidate, spread, verdict):
    counts = (counted(100.0, spread), counted(candidate, spread))
    found = _count_result(INSTRUCTIONS, counts, find_target("cortex-a72"), 0.05)
    assert found.change == pytest.approx(candidate / 100 - 1)
    assert found.verdict == verdict
    assert found.interval == (pytest.approx(_interval(candidate / 100, spread)) if spread else None)


def _interval(ratio, spread):
    return ratio * (1 - 2 * spread) - 1, ratio * (1 + 2 * spread) - 1
