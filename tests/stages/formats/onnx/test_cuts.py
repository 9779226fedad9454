"""Test cuts of an ONNX graph: each runs and computes what the whole does up to there."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from stages.devices.target import find_target, optimized_there
from stages.formats.onnx.convert import convert_onnx
from stages.formats.onnx.cuts import onnx_cuts


def outputs(data, feeds, as_is=True):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if as_is:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, feeds), strict=True))


@pytest.mark.parametrize("scheme", ["float32", "int8"])
def test_cuts_of_what_the_runtime_makes_of_a_file_compute_what_the_file_does(
    scheme, tiny_xception, tiny_images, tmp_path
):
    file = tmp_path / "model.onnx"
    file.write_bytes(convert_onnx(tiny_xception, scheme, calibration=tiny_images))
    optimized = optimized_there(find_target("cpu"), file, "model")
    found = list(onnx_cuts(optimized))
    nodes = onnx.load_from_string(optimized).graph.node
    assert [(cut.kind, cut.name) for cut in found] == [(node.op_type, node.name) for node in nodes]
    assert len(nodes) < len(onnx.load(file).graph.node)  # it has fused some
    feeds = {"image": tiny_images[:1]}
    (expected,) = outputs(file.read_bytes(), feeds, as_is=False).values()
    (last,) = outputs(found[-1].data, feeds).values()
    np.testing.assert_array_equal(last, expected)
    made = outputs(optimized_with_all_outputs(optimized), feeds)
    for cut in found[::3]:
        for name, values in outputs(cut.data, feeds).items():
            np.testing.assert_array_equal(values, made[name])
    assert len(found[0].data) < len(optimized) / 2  # it excludes weights that no remaining node reads


def optimized_with_all_outputs(data):
    model = onnx.load_from_string(data)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for node in model.graph.node for n in node.output if n)
    return model.SerializeToString()


def test_what_is_read_later_or_inside_a_loop_stays_alive():
    """`a` is read by the last node, `b` only by the body of an If."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, (2,))
    inner = [
        helper.make_graph(
            [helper.make_node(kind, ["b"], ["c"])],
            kind,
            [],
            [helper.make_tensor_value_info("c", TensorProto.FLOAT, (2,))],
        )
        for kind in ("Abs", "Neg")
    ]
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Exp", ["x"], ["b"]),
        helper.make_node("Not", ["no"], ["yes"]),
        helper.make_node("If", ["yes"], ["d"], then_branch=inner[0], else_branch=inner[1]),
        helper.make_node("Add", ["a", "d"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "branches",
        [value],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (2,))],
        [helper.make_tensor("no", TensorProto.BOOL, (), [False])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = np.float32([-1, 2])
    found = [outputs(cut.data, {"x": x}) for cut in onnx_cuts(model.SerializeToString())]
    assert [set(made) for made in found] == [{"a"}, {"a", "b"}, {"a", "b", "yes"}, {"a", "d"}, {"y"}]
    np.testing.assert_allclose(found[-1]["y"], np.maximum(x, 0) + np.exp(x), rtol=1e-6)
