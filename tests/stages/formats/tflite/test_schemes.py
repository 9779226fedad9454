"""Test TFLite's schemes: how many scales a kernel has, and inputs and outputs in whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.records.schemes import Quantization
from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.session import load_tflite
from stages.keras.tensorflow import import_keras


def convert(model: Any, samples: Any, **settings: Any) -> bytes:
    return convert_tflite(model, Quantization(**settings), "float32", samples)


@pytest.mark.parametrize("scheme", ["int8", "dynamic"])
def test_tflite_kernels_have_a_scale_a_channel_or_one(
    scheme: str, tiny_xception: Any, tiny_images: Any, tflite_kernels
) -> None:
    scales = {
        granularity: [
            count
            for operator, kernel, count in tflite_kernels(
                convert(tiny_xception, tiny_images, scheme=scheme, granularity=granularity)
            )
            if kernel == "INT8" and (scheme == "int8" or operator != "DEPTHWISE_CONV_2D")
        ]
        for granularity in ("per_channel", "per_tensor")
    }
    assert max(scales["per_channel"]) == 40
    assert set(scales["per_tensor"]) == {1}


def test_a_depthwise_kernel_in_dynamic_has_a_scale_a_channel_always(tflite_kernels) -> None:
    """Of one scale LiteRT 2.3.0 reads as many as there are channels: the outputs had no meaning."""
    keras = import_keras()
    keras.utils.set_random_seed(1)
    image = keras.Input((9, 9, 8), name="image")
    model = keras.Model(image, keras.layers.DepthwiseConv2D(3, name="head")(image))
    data = convert(model, None, scheme="dynamic", granularity="per_tensor")
    assert tflite_kernels(data) == [("DEPTHWISE_CONV_2D", "INT8", 8)]
    x = np.random.default_rng(0).standard_normal((4, 9, 9, 8)).astype(np.float32)
    expected = np.asarray(model(x))
    assert np.abs(load_tflite(data).run({"image": x})["head"] - expected).max() < 0.03 * np.abs(expected).max()


def test_int16x8_inputs_and_outputs_can_be_whole_numbers(tiny_xception: Any, tiny_images: Any) -> None:
    loaded = load_tflite(convert_tflite(tiny_xception, "int16x8", "int16", tiny_images))
    assert [spec.dtype for spec in (*loaded.inputs, *loaded.outputs)] == ["int16", "int16"]
    expected = np.asarray(tiny_xception(tiny_images, training=False))
    assert np.abs(loaded.run({"image": tiny_images})["head"] - expected).max() < 0.02
