"""Test transposed convolutions whose kernel and stride don't reach all of the output."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from stages.formats.onnx.convert import convert_onnx
from stages.formats.onnx.session import load_onnx
from stages.formats.onnx.transposed import _as_padding
from stages.keras.tensorflow import import_keras

SIZES = {1: (6, 3), 2: (5, 4, 3), 3: (3, 4, 2, 2)}
# kernel, stride, padding, output_padding
SMALL = [(2, 3, "same", None), (1, 2, "valid", None), (3, 2, "valid", 1), (2, 4, "same", 3), (2, 3, "valid", 2)]


def network(axes: int, free: bool = False, kinds: Any = SMALL) -> tuple[Any, Any]:
    """Build a network with an output for each kind, all weights normal numbers, and samples."""
    keras = import_keras()
    keras.utils.set_random_seed(0)
    shape = SIZES[axes]
    inputs = keras.Input((*(None,) * axes, shape[-1]) if free else shape, name="x")
    layer = getattr(keras.layers, f"Conv{axes}DTranspose")
    outputs = [
        layer(2, kernel, stride, padding=padding, output_padding=more, name=f"y{place}")(inputs)
        for place, (kernel, stride, padding, more) in enumerate(kinds)
    ]
    model, rng = keras.Model(inputs, outputs), np.random.default_rng(0)
    model.set_weights([rng.standard_normal(weight.shape).astype(np.float32) for weight in model.get_weights()])
    return model, rng.standard_normal((8, *shape)).astype(np.float32)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_what_no_number_reaches_is_the_bias(axes: int) -> None:
    model, x = network(axes)
    data = convert_onnx(model, "float32")
    graph = onnx.load_from_string(data)
    actual = load_onnx(data).run({"x": x})
    reference = ReferenceEvaluator(graph).run(None, {"x": x})
    assert not {"Pad", "Shape", "Slice"} & {node.op_type for node in graph.graph.node}
    for name, wanted, by_the_standard in zip(model.output_names, model(x), reference, strict=True):
        np.testing.assert_allclose(actual[name], wanted, atol=1e-5)
        np.testing.assert_allclose(by_the_standard, wanted, atol=1e-5)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_of_sizes_that_are_free(axes: int) -> None:
    model, x = network(axes, free=True, kinds=SMALL[:2])
    actual = load_onnx(convert_onnx(model, "float32")).run({"x": x})
    for name, wanted in zip(model.output_names, model(x), strict=True):
        np.testing.assert_allclose(actual[name], wanted, atol=1e-5)


@pytest.mark.parametrize(("scheme", "near"), [("int8", 0.03), ("dynamic", 0.03), ("weight_only", 0.02)])
def test_in_8_bits(scheme: Any, near: float) -> None:
    model, x = network(2)
    actual = load_onnx(convert_onnx(model, scheme, calibration=x if scheme == "int8" else None)).run({"x": x})
    for name, wanted in zip(model.output_names, model(x), strict=True):
        assert np.abs(actual[name] - wanted).max() < near * np.abs(wanted).max()


def test_only_what_is_negative_becomes_output_padding() -> None:
    assert _as_padding([0, 1, -1, 1]) == ([0, 1, 0, 1], [1, 0])
    assert _as_padding([-1, 0, -2, 0]) == ([0, 0, 0, 0], [3, 0])
    assert _as_padding([1, 0, 1, 1]) == ([1, 0, 1, 1], [0, 0])
