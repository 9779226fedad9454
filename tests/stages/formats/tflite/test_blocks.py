from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records.schemes import Quantization
from stages.formats.tflite.blocks import scales_of_blocks, unpacked, with_blocks_in_float
from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.cuts import cuts
from stages.formats.tflite.session import load_tflite
from stages.keras.tensorflow import import_keras


@given(st.lists(st.integers(-8, 7), min_size=1, max_size=9))
def test_numbers_come_back_from_halves_of_bytes(numbers: list[int]) -> None:
    padded = np.array([*numbers, 0][: len(numbers) + len(numbers) % 2]) % 16
    codes = (padded[::2] + 16 * padded[1::2]).astype(np.uint8)
    assert unpacked(codes, len(numbers)).tolist() == numbers


@pytest.fixture(scope="module")
def model() -> Any:
    keras = import_keras()
    keras.utils.set_random_seed(1)
    start = keras.Input((64,), name="x")
    dense = keras.layers.Dense(33, activation="relu", name="first")(start)
    return keras.Model(start, keras.layers.Dense(7, name="head")(dense))


@pytest.fixture(scope="module")
def file(model: Any) -> bytes:
    return convert_tflite(model, Quantization(scheme="int4_dynamic", granularity="per_block"))


def test_blocks_become_the_float32_that_they_stand_for(model: Any, file: bytes) -> None:
    found = schema.ModelT.InitFromObj(schema.Model.GetRootAs(with_blocks_in_float(file), 0))
    (graph,) = found.subgraphs
    (kernel,) = [t for t in graph.tensors if list(t.shape) == [33, 64]]
    assert kernel.type == schema.TensorType.FLOAT32
    values = found.buffers[kernel.buffer].data.view(np.float32).reshape(33, 64)
    expected = model.get_layer("first").get_weights()[0].T
    error = np.abs(values - expected).reshape(33, 2, 32).max(axis=2)
    # Half of a step, of 7 on each side; clipped weights and the scale's own rounding add to it.
    step = np.abs(expected).reshape(33, 2, 32).max(axis=2) / 7
    assert (error < 0.51 * step).mean() > 0.8
    assert (error < 1.5 * step).all()
    plain = convert_tflite(model, "int4_dynamic")
    assert with_blocks_in_float(plain) is plain


def test_a_cut_keeps_the_scales_of_its_blocks(file: bytes) -> None:
    """An emptied buffer of scales is read beyond its end."""
    x = np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32)
    first, last = cuts(file, "model")
    for cut in (first, last):
        kept = schema.ModelT.InitFromObj(schema.Model.GetRootAs(cut.data, 0))
        (graph,) = kept.subgraphs
        places = [place for tensor in graph.tensors if (place := scales_of_blocks(tensor)) is not None]
        assert [kept.buffers[graph.tensors[place].buffer].data.size for place in places] == [2 * 33 * 2]
    (whole,) = load_tflite(file).run({"x": x}).values()
    (through_cuts,) = load_tflite(last.data).run({load_tflite(last.data).inputs[0].name: x}).values()
    np.testing.assert_array_equal(through_cuts, whole)
