"""Test one-dimensional layers: no axis of size 1 around them, the same numbers, in every scheme."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from stages.formats.onnx.convert import convert_onnx
from stages.formats.onnx.session import load_onnx
from stages.formats.onnx.singletons import without_singletons
from stages.keras.tensorflow import import_keras

MOVERS = ("Unsqueeze", "Squeeze", "Transpose", "Reshape")


def unet(layers: Any, x: Any) -> Any:
    a = layers.Conv1D(8, 3, padding="same", activation="relu")(x)
    b = layers.Conv1D(16, 3, padding="same", activation="relu")(layers.MaxPooling1D()(a))
    return layers.Conv1D(2, 1)(layers.Concatenate()([layers.UpSampling1D()(b), a]))


def residual(layers: Any, x: Any) -> Any:
    for _ in range(2):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv1D(8, 3, padding="same")(x)))
    x = layers.MaxPooling1D()(x)
    x = layers.Add()([x, layers.Conv1D(8, 3, padding="same", dilation_rate=2)(x)])
    return layers.Dense(3)(layers.GlobalAveragePooling1D()(x))


def others(layers: Any, x: Any) -> Any:
    x = layers.SeparableConv1D(6, 3, padding="same")(layers.Conv1D(6, 3, padding="causal", strides=2)(x))
    x = layers.AveragePooling1D(3, 2, padding="same")(layers.DepthwiseConv1D(3)(x))
    return layers.Conv1DTranspose(3, 2, 3, padding="same")(x)


def model_of(build: Any, shape: tuple[int | None, ...] = (24, 4)) -> Any:
    keras = import_keras()
    keras.utils.set_random_seed(1)
    inputs = keras.Input(shape, name="x")
    model, rng = keras.Model(inputs, build(keras.layers, inputs)), np.random.default_rng(0)
    weights = model.get_weights()
    model.set_weights([w if w.ndim > 1 else rng.uniform(0.5, 1.5, w.shape).astype(np.float32) for w in weights])
    return model


def operators(data: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(data).graph.node)


@pytest.mark.parametrize(("build", "transposes"), [(unet, 2), (residual, 1), (others, 2)])
def test_no_axis_comes_and_goes(build: Any, transposes: int) -> None:
    """What stays turns the input, whose channels are last, and the output."""
    model = model_of(build)
    x = np.random.default_rng(0).standard_normal((8, 24, 4)).astype(np.float32)
    expected = np.asarray(model(x, training=False))
    data = convert_onnx(model, "float32")
    assert {kind: count for kind, count in operators(data).items() if kind in MOVERS} == {"Transpose": transposes}
    (actual,) = load_onnx(data).run({"x": x}).values()
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    (reference,) = ReferenceEvaluator(onnx.load_from_string(data)).run(None, {"x": x})
    np.testing.assert_allclose(reference, expected, atol=1e-5)
    for scheme, near in (("int8", 0.04), ("dynamic", 0.04), ("weight_only", 0.04)):
        (actual,) = (
            load_onnx(convert_onnx(model, scheme, calibration=x if scheme == "int8" else None)).run({"x": x}).values()
        )
        assert np.abs(actual - expected).max() < near * np.abs(expected).max()


def test_normalisations_are_folded_into_them() -> None:
    kinds = operators(convert_onnx(model_of(residual), "float32"))
    assert kinds["Conv"] == 3
    assert not {"Mul", "BatchNormalization"} & set(kinds)


@pytest.mark.parametrize("opset", [13, 26])
def test_of_a_length_that_is_free(opset: int) -> None:
    model = model_of(residual, (None, 4))
    x = np.random.default_rng(0).standard_normal((3, 18, 4)).astype(np.float32)
    (actual,) = load_onnx(convert_onnx(model, "float32", opset)).run({"x": x}).values()
    np.testing.assert_allclose(actual, np.asarray(model(x, training=False)), atol=1e-5)


def graph_of(nodes: list[Any], shape: list[int], constants: dict[str, Any], rank: int = 4) -> Any:
    tensors = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)
    graph = helper.make_graph(nodes, "g", [given], [made], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("axis", "perm", "kinds"),
    [
        (1, (0, 2, 1, 3), ["Unsqueeze"]),
        (3, (0, 1, 3, 2), ["Unsqueeze"]),
        (-3, (0, 3, 1, 2), ["Transpose", "Unsqueeze"]),
    ],
)
def test_a_transpose_that_moves_an_inserted_axis(axis: int, perm: tuple[int, ...], kinds: list[str]) -> None:
    nodes = [helper.make_node("Unsqueeze", ["x", "a"], ["b"]), helper.make_node("Transpose", ["b"], ["y"], perm=perm)]
    model = graph_of(nodes, [2, 3, 4], {"a": np.array([axis], np.int64)})
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    (before,) = ReferenceEvaluator(model).run(None, {"x": x})
    without_singletons(model)
    assert [node.op_type for node in model.graph.node] == kinds
    (after,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("kernel", [(3, 3), (1, 3)])
def test_a_window_along_the_axis_is_one_of_two_dimensions(kernel: tuple[int, int]) -> None:
    """Three numbers of padding and one: only what does nothing is left out."""
    pads = [kernel[0] // 2, 1, kernel[0] // 2, 1]
    nodes = [
        helper.make_node("Unsqueeze", ["x", "a"], ["b"]),
        helper.make_node("AveragePool", ["b"], ["c"], kernel_shape=kernel, pads=pads, count_include_pad=1),
        helper.make_node("Squeeze", ["c", "a"], ["y"]),
    ]
    model = graph_of(nodes, [2, 3, 8], {"a": np.array([2], np.int64)}, rank=3)
    x = np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32)
    before = load_onnx(model.SerializeToString()).run({"x": x})["y"]
    without_singletons(model)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds == (["AveragePool", "Identity"] if kernel == (1, 3) else ["Unsqueeze", "AveragePool", "Squeeze"])
    np.testing.assert_allclose(load_onnx(model.SerializeToString()).run({"x": x})["y"], before, atol=1e-6)
