"""Test which ranges `calibration: auto` takes in ONNX, and that the file is the winner's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.records.schemes import Quantization
from stages.formats.calibration.choice import RangeChoice
from stages.formats.onnx.convert import convert_onnx


def converted(model: Any, samples: Any, method: str) -> tuple[bytes, list[RangeChoice]]:
    choices = list[RangeChoice]()
    how = Quantization.model_validate({"scheme": "int8", "calibration": method})
    return convert_onnx(model, how, calibration=samples, chose=choices.append), choices


@pytest.mark.parametrize(("spikes", "read", "method"), [(3, False, "percentile"), (16, True, "min_max")])
def test_outliers_are_clipped_where_they_tell_nothing_and_kept_where_they_tell_all(
    spikes: int, read: bool, method: str, spiky: Any
) -> None:
    model, samples = spiky(spikes=spikes, read=read)
    made, (choice,) = converted(model, samples["image"], "auto")
    assert choice.method == method
    assert choice.samples == 16
    other = "min_max" if method == "percentile" else "percentile"
    assert choice.errors[choice.method] < 0.5 * choice.errors[other]
    assert made == converted(model, samples["image"], method)[0]


@pytest.mark.parametrize("method", ["min_max", "percentile", "mse", "auto"])
def test_no_order_of_samples_changes_a_byte(method: str, tiny_xception: Any, tiny_images: Any) -> None:
    samples = tiny_images[:45]  # more than a batch, and a rest
    order = np.random.default_rng(1).permutation(len(samples))
    assert converted(tiny_xception, samples, method) == converted(tiny_xception, samples[order], method)


def test_with_one_sample_nothing_is_judged(tiny_xception: Any, tiny_images: Any) -> None:
    made, (choice,) = converted(tiny_xception, tiny_images[:1], "auto")
    assert (choice.method, choice.errors) == ("min_max", {})
    assert made == converted(tiny_xception, tiny_images[:1], "min_max")[0]
