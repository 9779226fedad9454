"""Test networks for which the converter's own ranges make LiteRT refuse the file, or compute something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.session import load_tflite, signature_of
from stages.keras.tensorflow import import_keras

ASLEEP = -20.0  # a bias that no sample overcomes


def dead_convolution(layers: Any, inner: Any, bias: Any) -> Any:
    return layers.Add(name="head")([inner, layers.Conv2D(8, 3, padding="same", activation="relu", **bias)(inner)])


def dead_depthwise(layers: Any, inner: Any, bias: Any) -> Any:
    dead = layers.DepthwiseConv2D(3, padding="same", activation="relu", **bias)(inner)
    return layers.Add(name="head")([inner, dead])


def dead_dense(layers: Any, inner: Any, bias: Any) -> Any:
    pooled = layers.GlobalAveragePooling2D()(inner)
    return layers.Add(name="head")([layers.Dense(8)(pooled), layers.Dense(8, activation="relu", **bias)(pooled)])


def dead_then_pooled(layers: Any, inner: Any, bias: Any) -> Any:
    dead = layers.Conv2D(8, 3, activation="relu", **bias)(inner)
    pool = layers.GlobalAveragePooling2D
    return layers.Add(name="head")([pool()(inner), pool()(dead)])


def dead_product(layers: Any, inner: Any, bias: Any) -> Any:
    dead = layers.Conv2D(8, 3, padding="same", activation="relu", **bias)(inner)
    return layers.Add(name="head")([inner, layers.Multiply()([inner, dead])])


@pytest.mark.parametrize("branch", [dead_convolution, dead_depthwise, dead_dense, dead_then_pooled, dead_product])
def test_a_branch_that_is_silent_on_all_samples_makes_a_file_that_runs_and_is_near_keras(
    branch: Callable[..., Any],
) -> None:
    keras = import_keras()
    keras.utils.set_random_seed(1)
    bias = {"bias_initializer": keras.initializers.Constant(ASLEEP)}
    start = keras.Input((8, 8, 3), name="image")
    inner = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(start)
    model = keras.Model(start, branch(keras.layers, inner, bias))
    x = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype(np.float32)
    data = convert_tflite(model, "int8", "int8", x)
    found, wanted = load_tflite(data).run({"image": x})["head"], np.asarray(model(x))
    step = signature_of(data)[1]["head"][1]["quantization"][0]
    assert step / 2 < np.abs(found - wanted).max() < 5 * step


def test_a_bidirectional_layer_that_returns_sequences_is_clipped_nowhere() -> None:
    keras = import_keras()
    layers = keras.layers
    keras.utils.set_random_seed(2)
    start = keras.Input((6, 5), name="s")
    inner = layers.Flatten()(layers.Bidirectional(layers.LSTM(8, return_sequences=True))(start))
    model = keras.Model(start, layers.Dense(3, name="head")(inner))
    x = np.random.default_rng(0).normal(size=(24, 6, 5)).astype(np.float32)
    wanted = np.asarray(model(x))
    found = load_tflite(convert_tflite(model, "int8", calibration=x)).run({"s": x})["head"]
    assert 0.001 < np.abs(found - wanted).max() / np.abs(wanted).max() < 0.06
