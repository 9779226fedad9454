"""Test what a file's outputs are before a closing softmax or sigmoid, in float32 and in 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stages.formats.tflite.closing import outputs_before_closing
from stages.formats.tflite.convert import convert_tflite
from stages.keras.tensorflow import import_keras


@pytest.mark.parametrize(("scheme", "io", "room"), [("float32", "float32", 1e-5), ("int8", "int8", 0.05)])
def test_sums_come_before_what_closes_them(scheme: Any, io: Any, room: float) -> None:
    keras = import_keras()
    keras.utils.set_random_seed(1)
    start = keras.Input((6,), name="x")
    sums = [keras.layers.Dense(5, name=name)(start) for name in ("a", "b", "c")]
    closings = ("softmax", "sigmoid", "linear")
    model = keras.Model(
        start,
        [keras.layers.Activation(kind, name=f"out_{kind}")(part) for kind, part in zip(closings, sums, strict=True)],
    )
    x = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    found = outputs_before_closing(convert_tflite(model, scheme, io, x), {"x": x}, range(3, 17))
    wanted = dict(zip(closings, keras.Model(start, sums)(x[3:17]), strict=True))
    # The signature's own names are Keras' outputs, in the order of the alphabet.
    for kind, actual in zip(sorted(closings), found, strict=True):
        assert actual == pytest.approx(np.asarray(wanted[kind]), abs=room), kind
