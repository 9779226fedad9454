"""Check how microcontrollers' results differ: which schemes, which files, and the tolerance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.records.schemes import Quantization
from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.micro_limits import (
    FLOAT,
    INTEGERS,
    allowed_difference,
    micro_difference,
    refused_in_micro,
    wrong_in_micro,
)


@pytest.fixture(scope="module")
def files(tiny_xception: Any, tiny_images: Any) -> dict[str, bytes]:
    weights = {
        granularity: convert_tflite(tiny_xception, Quantization(scheme="weight_only", granularity=granularity))
        for granularity in ("per_tensor", "per_channel")
    }
    float32 = convert_tflite(tiny_xception, "float32")
    return {"float32": float32, "int8": convert_tflite(tiny_xception, "int8", "int8", tiny_images), **weights}


def test_files_are_judged_by_what_they_compute_in(files: dict[str, bytes]) -> None:
    allowed = {name: allowed_difference(data) for name, data in files.items()}
    assert allowed == {"float32": FLOAT, "int8": INTEGERS, "per_tensor": FLOAT, "per_channel": FLOAT}
    wrong = {name for name, data in files.items() if wrong_in_micro(data)}
    assert wrong == {"per_channel"}


def test_schemes_are_refused_before_there_is_a_file() -> None:
    reasons = {scheme: refused_in_micro(Quantization(scheme=scheme)) for scheme in ("float32", "int8", "int16x8")}
    assert set(reasons.values()) == {None}
    assert "half-precision" in str(refused_in_micro(Quantization(scheme="float16")))
    assert "hybrid" in str(refused_in_micro(Quantization(scheme="dynamic")))
    assert "hybrid" in str(refused_in_micro(Quantization(scheme="int4_dynamic")))
    assert "no 4-bit weights" in str(refused_in_micro(Quantization(scheme="int4_weight_only")))
    assert "one scale a tensor" in str(refused_in_micro(Quantization(scheme="weight_only")))
    assert refused_in_micro(Quantization(scheme="weight_only", granularity="per_tensor")) is None


def test_differences_are_parts_of_the_largest_output(files: dict[str, bytes]) -> None:
    real = np.array([[0.5, -2.0, 1.0, 0.0]], np.float32)
    assert micro_difference(files["float32"], [real], [real]) == 0
    assert micro_difference(files["float32"], [real], [real + np.float32([0, 0, 0.1, 0])]) == pytest.approx(0.05)
    assert np.isnan(micro_difference(files["float32"], [real], [real * np.nan]))
    stored = np.array([[-128, -28, -128, -128]], np.int8)  # the zero point of a softmax is -128
    assert micro_difference(files["int8"], [stored], [stored + np.array([[0, 10, 0, 0]], np.int8)]) == pytest.approx(
        0.1
    )
    low = np.array([[-128, -126, -128, -128]], np.int8)
    assert micro_difference(files["int8"], [low], [low + np.array([[0, 2, 0, 0]], np.int8)]) == pytest.approx(0.1)
