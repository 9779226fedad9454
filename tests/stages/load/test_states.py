"""Test stateful recurrent layers: whatever ran before, and however often, a file begins each call with zeros."""

import numpy as np
import pytest

from pipeline.system.quiet import quiet
from stages.formats.onnx.convert import convert_onnx
from stages.formats.registry import load_exported
from stages.formats.tflite.convert import convert_tflite
from stages.keras.channels.groups import channel_groups
from stages.keras.normal_form import copy_model
from stages.load import load_model

X = np.random.default_rng(0).standard_normal((1, 6, 4)).astype(np.float32)


def lstm(keras, inputs):
    return keras.layers.LSTM(8, stateful=True, name="memory")(inputs)


def sequences(keras, inputs):
    return keras.layers.GRU(8, stateful=True, return_sequences=True, name="memory")(inputs)


def both_ways(keras, inputs):
    inner = keras.layers.LSTM(8, stateful=True, name="inner")
    return keras.layers.Bidirectional(inner, name="memory")(inputs)


def in_a_model(keras, inputs):
    inside = keras.Input(batch_shape=(1, 6, 4))
    return keras.Model(inside, lstm(keras, inside), name="nested")(inputs)


def cells(keras, inputs):
    cell = keras.layers.StackedRNNCells([keras.layers.LSTMCell(8), keras.layers.GRUCell(8)])
    return keras.layers.RNN(cell, stateful=True, name="memory")(inputs)


@pytest.mark.parametrize("build", [lstm, sequences, both_ways, in_a_model, cells])
def test_each_call_begins_with_zeros(either_keras, build, tmp_path):
    keras = either_keras
    inputs = keras.Input(batch_shape=(1, 6, 4), name="x")
    model = keras.Model(inputs, build(keras, inputs))
    first = np.asarray(model(X))
    second = np.asarray(model(X))
    assert np.abs(first - second).max() > 1e-3  # in Keras itself
    with quiet():  # Keras 3 warns by itself with newer releases of numpy
        model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    for model in (loaded.model, copy_model(loaded.model)):
        for _ in range(2):
            np.testing.assert_allclose(model(X), first, atol=1e-6)
    assert any("stateful=True" in note and "zeros" in note for note in loaded.notes)


@pytest.mark.parametrize("build", [lstm, both_ways])
def test_files_of_a_network_that_was_run_compute_the_first_call(keras2, build, tmp_path):
    inputs = keras2.Input(batch_shape=(1, 6, 4), name="x")
    model = keras2.Model(inputs, build(keras2, inputs))
    first = np.asarray(model(X))
    model.save(tmp_path / "model.keras")
    loaded = copy_model(load_model(tmp_path / "model.keras").model)
    loaded(X)
    for kind, data in (
        ("tflite-model", convert_tflite(loaded, "float32")),
        ("onnx-model", convert_onnx(loaded, "float32")),
    ):
        session = load_exported(kind, data, threads=1)
        (found,) = session.run({"x": X}).values()
        np.testing.assert_allclose(found, first, atol=1e-5)


def test_their_units_can_be_pruned(keras2, tmp_path):
    inputs = keras2.Input(batch_shape=(1, 6, 4), name="x")
    model = keras2.Model(inputs, keras2.layers.Dense(2)(lstm(keras2, inputs)))
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras").model
    assert "memory" in {group.name for group in channel_groups(loaded).prunable}
