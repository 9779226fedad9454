"""Test inputs that lie halfway between steps: none do any more, however they were computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.formats.onnx.convert import convert_onnx
from stages.formats.session import quantized
from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.session import signature_of
from stages.keras.tensorflow import import_keras
from stages.samples.input_ranges import half_way, inputs_off_the_ties, off_the_ties

PIXELS = np.arange(256, dtype=np.float32)
DIVIDED, MULTIPLIED = PIXELS / np.float32(127.5) - 1, PIXELS * np.float32(1 / 127.5) - 1


def test_pixels_from_minus_one_to_one_all_lie_half_way_and_one_step_more_has_none() -> None:
    assert half_way(MULTIPLIED, -1.0, 1.0) == 1.0
    low, high = off_the_ties(MULTIPLIED, -1.0, 1.0)
    assert half_way(MULTIPLIED, low, high) == 0.0
    assert (low, high) == pytest.approx((-255 / 254, 255 / 254))


@given(st.integers(1, 60), st.sampled_from([1.0, 0.5, 127.5, 3.0]))
def test_what_is_not_half_way_stays_and_what_is_never_gets_a_narrower_range(seed: int, scale: float) -> None:
    drawn = np.random.default_rng(seed).normal(size=500) * scale
    assert off_the_ties(drawn, drawn.min(), drawn.max()) == (drawn.min(), drawn.max())
    assert off_the_ties(PIXELS / 255 * scale, 0.0, scale) == (0.0, scale)
    low, high = off_the_ties(MULTIPLIED * scale, -scale, scale)
    assert low <= -scale
    assert high >= scale
    assert half_way(MULTIPLIED * scale, low, high) < 0.005


def test_a_range_of_nothing_is_left_alone() -> None:
    assert off_the_ties(np.zeros(4), 0.0, 0.0) == (0.0, 0.0)


def test_what_moves_an_input_has_its_range() -> None:
    nodes = [onnx.helper.make_node("Transpose", ["x"], ["t"]), onnx.helper.make_node("Relu", ["t"], ["r"])]
    graph = onnx.helper.make_graph(nodes, "g", [], [])
    found = inputs_off_the_ties(graph, {"x": (-1.0, 1.0), "t": (-1.0, 1.0), "r": (0.0, 1.0)}, {"x": MULTIPLIED})
    assert found["t"] == found["x"] == off_the_ties(MULTIPLIED, -1.0, 1.0)
    assert found["r"] == (0.0, 1.0)


@pytest.fixture(scope="module")
def pictures() -> Any:
    """Return all pixels as a picture, in both formulas."""
    return [values.reshape(1, 16, 16, 1) for values in (DIVIDED, MULTIPLIED)]


def test_files_give_both_formulas_the_same_codes(pictures: Any) -> None:
    keras = import_keras()
    keras.utils.set_random_seed(1)
    start = keras.Input((16, 16, 1), name="image")
    inner = keras.layers.Conv2D(4, 3, activation="relu")(start)
    model = keras.Model(start, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(inner)))
    detail = signature_of(convert_tflite(model, "int8", "int8", pictures[1]))[0]["image"][1]
    codes = [quantized(values, detail) for values in pictures]
    np.testing.assert_array_equal(*codes)
    assert len(np.unique(codes[0])) >= 254
    graph = onnx.load_from_string(convert_onnx(model, "int8", 17, pictures[1])).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    first = next(node for node in graph.node if node.op_type == "QuantizeLinear")
    scale = constants[first.input[1]]
    np.testing.assert_array_equal(*(np.rint(values / scale) for values in pictures))
    assert scale == pytest.approx(2 / 254, rel=1e-6)
