"""Test recurrent layers in TFLite files: plain calls of LiteRT give, call after call, what Keras gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.errors import ModelError, UnsupportedError
from stages.formats.c.tflm import micro_is_installed, run_micro
from stages.formats.tflite.convert import convert_tflite, tflite_facts
from stages.formats.tflite.recurrent import MOST_STEPS, keeps_state
from stages.formats.tflite.session import load_tflite
from stages.formats.tflite.tensors import count_operators
from stages.keras.tensorflow import import_keras

STEPS, FEATURES = 6, 5
Network = Callable[..., Any]


@pytest.fixture(scope="module")
def sequences() -> Any:
    return np.random.default_rng(0).normal(size=(24, STEPS, FEATURES)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> Network:
    """Build a network of one recurrent layer."""
    keras = import_keras()

    def make(kind: str, steps: int | None = STEPS, *, both_ways: bool = False, **settings: Any) -> Any:
        layer = getattr(keras.layers, kind)(4, **settings)
        start = keras.Input((steps, FEATURES), name="s")
        outputs = (keras.layers.Bidirectional(layer) if both_ways else layer)(start)
        model = keras.Model(start, keras.layers.Dense(3, name="head")(outputs))
        rng = np.random.default_rng(1)  # Keras' own draws depend on what other tests have set
        model.set_weights([rng.normal(0, 0.5, w.shape) if w.ndim > 1 else w for w in model.get_weights()])
        return model

    return make


def plain_calls(data: bytes, samples: Any) -> Any:
    """Call the file as a user's own program does: set, invoke, get, and nothing else."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for sample in samples:
        interpreter.set_tensor(given["index"], sample[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(made["index"])[0])
    return np.array(found)


def off(found: Any, model: Any, samples: Any) -> float:
    """Return the largest difference from Keras relative to the largest output."""
    wanted = np.asarray(model(samples, training=False))
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("both_ways", [False, True])
def test_plain_calls_of_an_lstm_give_what_keras_gives(network: Network, sequences: Any, both_ways: bool) -> None:
    model = network("LSTM", both_ways=both_ways)
    data = convert_tflite(model, "float32")
    assert count_operators(data)["WHILE"] == 1 + both_ways
    assert not keeps_state(data)
    assert off(plain_calls(data, sequences), model, sequences) < 1e-5


@pytest.mark.parametrize(
    ("kind", "scheme", "both_ways", "most"),
    [("GRU", "int8", False, 0.08), ("LSTM", "int16x8", False, 0.02), ("LSTM", "int8", True, 0.08)],
)
def test_integers_unroll_what_they_cannot_fuse(
    network: Network, sequences: Any, kind: str, scheme: Any, both_ways: bool, most: float
) -> None:
    model = network(kind, both_ways=both_ways)
    data = convert_tflite(model, scheme, calibration=sequences)
    assert not keeps_state(data)
    assert {"WHILE", "UNIDIRECTIONAL_SEQUENCE_LSTM"}.isdisjoint(count_operators(data))
    assert count_operators(data)["TANH"] >= STEPS
    assert 1e-4 < off(plain_calls(data, sequences), model, sequences) < most


def test_a_fused_lstm_says_that_it_keeps_a_state_and_we_clear_it(network: Network, sequences: Any) -> None:
    model = network("LSTM")
    data = convert_tflite(model, "int8", calibration=sequences, metadata={"scheme": "int8"})
    assert count_operators(data)["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 1
    assert off(plain_calls(data, sequences), model, sequences) > 0.1
    loaded = load_tflite(data)
    assert off(loaded.run({"s": sequences})["head"], model, sequences) < 0.05
    facts = tflite_facts(data, "int8", loaded.inputs, loaded.outputs)
    assert facts.keeps_state
    state = json.loads(data[data.rindex(b'{"scheme"') :].split(b"}")[0] + b"}")["state"]
    assert "kept between calls" in state
    if micro_is_installed():
        assert off(run_micro(data, {"s": sequences}, "lstm").outputs["head"], model, sequences) < 0.05


def test_a_form_that_is_asked_for_is_taken(network: Network, sequences: Any) -> None:
    model = network("LSTM")
    fused = convert_tflite(model, "float32", recurrent="fused")
    assert keeps_state(fused)
    unrolled = convert_tflite(model, "float32", recurrent="unrolled")
    assert not keeps_state(unrolled)
    assert count_operators(unrolled)["TANH"] == 2 * STEPS
    assert off(plain_calls(unrolled, sequences), model, sequences) < 1e-5
    assert model.layers[1].unroll is False


def test_what_has_no_such_form_is_refused_with_the_layer_before_it_is_converted(
    network: Network, sequences: Any
) -> None:
    keras = import_keras()
    with pytest.raises(UnsupportedError, match="no loops in int8") as caught:  # `unsupported: skip` leaves it out
        convert_tflite(network("GRU"), "int8", calibration=sequences, recurrent="loop")
    assert "take unrolled" in str(caught.value.hint)
    with pytest.raises(ModelError, match="no loops in int8: 'gru'") as caught:
        convert_tflite(network("GRU", name="gru"), "int8", calibration=sequences, recurrent="fused")
    assert "recurrent: unrolled" in str(caught.value.hint)
    with pytest.raises(ModelError, match=f"'long' has {MOST_STEPS + 1} steps"):
        convert_tflite(network("LSTM", MOST_STEPS + 1, name="long"), "float32", recurrent="unrolled")
    start = keras.Input((3, 6, 6, 2), name="s")
    video = keras.Model(start, keras.layers.ConvLSTM2D(2, 3, name="video")(start))
    with pytest.raises(ModelError, match=r"'video' \(ConvLSTM2D\) is a loop"):
        convert_tflite(video, "int8", calibration=np.zeros((2, 3, 6, 6, 2), np.float32))
