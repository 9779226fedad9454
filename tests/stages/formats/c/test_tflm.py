from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from pipeline.errors import DeviceError
from stages.formats.c.tflm import run_micro
from stages.formats.tflite.session import load_tflite

tflm = pytest.mark.skipif(find_spec("tflite_micro") is None, reason="pip install tflite-micro")


@tflm
def test_the_runtime_of_microcontrollers_computes_what_litert_does(tiny_xception: Any, tiny_images: Any) -> None:
    from stages.formats.tflite.convert import convert_tflite

    data = convert_tflite(tiny_xception, "int8", "int8", tiny_images)
    found = run_micro(data, {"image": tiny_images[:5]}, "tiny")
    expected = load_tflite(data).run({"image": tiny_images[:5]})["head"]
    assert found.outputs["head"].shape == expected.shape
    steps = np.abs(found.outputs["head"] - expected) * 256  # a last step before the softmax is several after it
    assert steps.max() <= 6
    assert steps.mean() <= 1.5
    with pytest.raises(DeviceError, match="can't run this model") as caught:
        run_micro(convert_tflite(tiny_xception, "float16"), {"image": tiny_images[:1]}, "half")
    assert caught.value.where == "half"
