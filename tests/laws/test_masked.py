"""Test masks: sequences of different lengths through recurrent layers, in both formats as in Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stages.formats.onnx.convert import convert_onnx
from stages.formats.onnx.session import load_onnx
from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.session import load_tflite
from stages.keras.tensorflow import import_keras


def layer_of(keras: Any, kind: str) -> Any:
    layers = keras.layers
    return {
        "lstm": lambda: layers.LSTM(4, name="y"),
        "every step": lambda: layers.GRU(4, return_sequences=True, name="y"),
        "both ways": lambda: layers.Bidirectional(layers.SimpleRNN(3), name="y"),
        "both ways, lstm": lambda: layers.Bidirectional(layers.LSTM(3), name="y"),
        "both ways, gru": lambda: layers.Bidirectional(layers.GRU(3, return_sequences=True), name="y"),
    }[kind]()


@pytest.mark.parametrize("kind", ["lstm", "every step", "both ways", "both ways, lstm", "both ways, gru"])
def test_what_is_masked_moves_no_output(kind: str) -> None:
    keras = import_keras()
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6, 5), name="x")
    model = keras.Model(inputs, layer_of(keras, kind)(keras.layers.Masking(name="masking")(inputs)))
    x = np.random.default_rng(0).standard_normal((4, 6, 5)).astype(np.float32)
    whole = np.asarray(model(x, training=False))
    x[::2, 4:] = 0  # short sequences, which Keras masks
    x[1, 2] = 0  # and a gap within one
    expected = np.asarray(model(x, training=False))
    assert np.abs(expected - whole)[[0, 1, 2]].max() > 1e-2  # it matters
    np.testing.assert_array_equal(expected[3], whole[3])
    for load, convert in ((load_onnx, convert_onnx), (load_tflite, convert_tflite)):
        (actual,) = load(convert(model, "float32")).run({"x": x}).values()
        np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_an_embedding_masks_as_well() -> None:
    keras = import_keras()
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6,), name="x", dtype="int32")
    rows = keras.layers.Embedding(20, 8, mask_zero=True, name="table")(inputs)
    model = keras.Model(inputs, keras.layers.LSTM(4, name="y")(rows))
    x = np.random.default_rng(0).integers(1, 20, (4, 6)).astype(np.int32)
    x[::2, 3:] = 0
    expected = np.asarray(model(x, training=False))
    for load, convert in ((load_onnx, convert_onnx), (load_tflite, convert_tflite)):
        (actual,) = load(convert(model, "float32")).run({"x": x}).values()
        np.testing.assert_allclose(actual, expected, atol=1e-5)
