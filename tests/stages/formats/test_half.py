"""Test what float16 can't hold: refused with the layer, or reported."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.errors import ModelError
from stages.formats.half import doubts_about_half, require_in_half
from stages.formats.onnx.convert import convert_onnx
from stages.formats.onnx.session import load_onnx
from stages.formats.tflite.convert import convert_tflite
from stages.keras.tensorflow import import_keras


def wide_and_small() -> Any:
    """Build a kernel of up to 600,000, and one of a millionth."""
    keras = import_keras()
    start = keras.Input((6,), name="v")
    model = keras.Model(start, keras.layers.Dense(3, name="small")(keras.layers.Dense(4, name="wide")(start)))
    values = np.linspace(-6e5, 6e5, 24, dtype=np.float32).reshape(6, 4)
    model.set_weights([values, np.zeros(4), np.linspace(-1e-6, 1e-6, 12).reshape(4, 3), np.zeros(3)])
    return model


def test_weights_beyond_float16_are_refused_with_layer_and_size() -> None:
    model = wide_and_small()
    data = convert_tflite(model, "float16")
    with pytest.raises(ModelError, match=r"'wide' \(up to 6e\+05\) are beyond the range of float16, .* 65504"):
        require_in_half(model, data, difference=0.0, allowed=0.05)


def test_what_a_normalization_makes_too_large_is_refused_where_it_changes_the_outputs() -> None:
    keras = import_keras()
    start = keras.Input((8, 8, 2), name="v")
    inner = keras.layers.Conv2D(4, 3, use_bias=False, name="conv")(start)
    model = keras.Model(start, keras.layers.BatchNormalization(name="norm")(inner))
    model.layers[-1].set_weights([np.full(4, 1e6), np.zeros(4), np.zeros(4), np.ones(4)])
    data = convert_tflite(model, "float16")
    require_in_half(model, data, difference=0.01, allowed=0.05)
    with pytest.raises(ModelError, match=r"'conv'.* beyond the range of float16.* differ from Keras' by 9.0e-01"):
        require_in_half(model, data, difference=0.9, allowed=0.05)


def test_onnx_keeps_in_float32_what_half_cannot_hold_and_both_formats_tell_what_is_lost() -> None:
    model = wide_and_small()
    small, wide = doubts_about_half(model, stays_in_float32=True)
    assert small.startswith("float16 rounds the weights of layer 'small' by 3%")
    assert wide == "weights of layer 'wide' (up to 6e+05) stay in float32: float16 ends at 65504"
    assert doubts_about_half(model) == (small,)
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    found, wanted = load_onnx(convert_onnx(model, "float16")).run({"v": x})["small"], np.asarray(model(x))
    assert 1e-4 < np.abs(found - wanted).max() / np.abs(wanted).max() < 0.1


def test_a_usual_network_gives_no_doubts(tiny_xception: Any) -> None:
    assert doubts_about_half(tiny_xception, stays_in_float32=True) == ()
    require_in_half(tiny_xception, convert_tflite(tiny_xception, "float16"), difference=1.0, allowed=0.05)
