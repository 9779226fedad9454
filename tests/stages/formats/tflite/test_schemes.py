"""Test TFLite's schemes: how many scales a kernel has, and inputs and outputs in whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.records.schemes import Quantization
from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.session import load_tflite


def convert(model: Any, samples: Any, **settings: Any) -> bytes:
    return convert_tflite(model, Quantization(**settings), "float32", samples)


@pytest.mark.parametrize("scheme", ["int8", "dynamic"])
def test_tflite_kernels_have_a_scale_a_channel_or_one(
    scheme: str, tiny_xception: Any, tiny_images: Any, tflite_kernels
) -> None:
    scales = {
        granularity: [
            count
            for _, kernel, count in tflite_kernels(
                convert(tiny_xception, tiny_images, scheme=scheme, granularity=granularity)
            )
            if kernel == "INT8"
        ]
        for granularity in ("per_channel", "per_tensor")
    }
    assert max(scales["per_channel"]) == 40
    assert set(scales["per_tensor"]) == {1}


def test_int16x8_inputs_and_outputs_can_be_whole_numbers(tiny_xception: Any, tiny_images: Any) -> None:
    loaded = load_tflite(convert_tflite(tiny_xception, "int16x8", "int16", tiny_images))
    assert [spec.dtype for spec in (*loaded.inputs, *loaded.outputs)] == ["int16", "int16"]
    expected = np.asarray(tiny_xception(tiny_images, training=False))
    assert np.abs(loaded.run({"image": tiny_images})["head"] - expected).max() < 0.02
