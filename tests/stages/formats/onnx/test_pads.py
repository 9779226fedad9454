"""Pad with zeros before a maximum of negative numbers: ONNX Runtime has to compute what the standard says."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stages.formats.onnx.pads import keep_zeros
from stages.formats.onnx.session import load_onnx

X = -1 - np.random.default_rng(0).random((1, 1, 4, 4)).astype(np.float32)  # zeros win wherever they are seen


def padded(value=0.0, before=None, mode="constant"):
    nodes = [helper.make_node(before, ["x"], ["given"])] if before else []
    inputs = ["given" if before else "x", "pads", *(["value"] if value is not None else [])]
    nodes.append(helper.make_node("Pad", inputs, ["padded"], name="pad", mode=mode))
    nodes.append(helper.make_node("MaxPool", ["padded"], ["y"], kernel_shape=[3, 3], strides=[2, 2]))
    constants = [numpy_helper.from_array(np.int64([0, 0, 1, 1, 0, 0, 1, 1]), "pads")]
    if value is not None:
        constants.append(numpy_helper.from_array(np.float32(value), "value"))
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", (1, 1, 4, 4)), ("y", (1, 1, 2, 2)))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def values_of(model):
    """Return what the Pad of a graph pads with."""
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    (node,) = (node for node in model.graph.node if node.op_type == "Pad")
    return [float(held[name]) for name in node.input[2:]]


@pytest.mark.parametrize("value", [0.0, None])
def test_zeros_before_a_maximum_are_kept_from_the_runtime(value):
    model = padded(value)
    keep_zeros(model)
    onnx.checker.check_model(model)
    (least,) = values_of(model)
    assert 0 < least < 1e-37
    around = np.pad(X, ((0, 0), (0, 0), (1, 1), (1, 1)))
    expected = [[around[0, 0, i : i + 3, j : j + 3].max() for j in (0, 2)] for i in (0, 2)]
    (found,) = load_onnx(model.SerializeToString()).run({"x": X}).values()
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-30)


@pytest.mark.parametrize("settings", [{"before": "Relu"}, {"value": -5.0}, {"mode": "reflect", "value": None}])
def test_others_stay_as_they_are(settings):
    model = padded(**settings)
    before = model.SerializeToString()
    keep_zeros(model)
    assert model.SerializeToString() == before
    changed = padded()
    keep_zeros(changed)
    assert changed.SerializeToString() != padded().SerializeToString()
