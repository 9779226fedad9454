"""Test what a graph's outputs are before a closing softmax or sigmoid, in float32 and in 8 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.formats.onnx.closing import outputs_before_closing
from stages.formats.onnx.convert import convert_onnx
from stages.keras.tensorflow import import_keras


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "linear"])
@pytest.mark.parametrize(("scheme", "room"), [("float32", 1e-5), ("int8", 0.05)])
def test_sums_come_before_what_closes_them(activation: str, scheme: Any, room: float, tmp_path: Path) -> None:
    keras = import_keras()
    keras.utils.set_random_seed(1)
    start = keras.Input((6,), name="x")
    sums = keras.layers.Dense(5, name="sums")(start)
    model = keras.Model(start, [keras.layers.Activation(activation, name="head")(sums), start * 2.0])
    x = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    path = tmp_path / "model.onnx"
    path.write_bytes(convert_onnx(model, scheme, calibration=x))
    found = outputs_before_closing(path, [{"x": x[:8]}, {"x": x[8:]}])
    for wanted, actual in zip((keras.Model(start, sums)(x), x * 2), found, strict=True):
        assert actual == pytest.approx(np.asarray(wanted), abs=room)
