import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from stages.formats.onnx.tensors import onnx_constants, onnx_ends, onnx_graph, onnx_reads, onnx_tensors

KERNEL = np.int8([[1, -2], [3, 4], [127, -128]])


@pytest.fixture
def file():
    """Build y = relu(q(x) · w), quantized: x of one scale for all, w of one a column."""
    constants = {
        "scale": np.float32(0.5), "zero": np.int8(-10), "w": KERNEL,
        "scales": np.float32([1, 0.5]), "zeros": np.int8([0, 2]),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["stored"]),
        helper.make_node("DequantizeLinear", ["stored", "scale", "zero"], ["real"]),
        helper.make_node("DequantizeLinear", ["w", "scales", "zeros"], ["kernel"], axis=1),
        helper.make_node("MatMul", ["real", "kernel"], ["product"]),
        helper.make_node("Relu", ["product"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, size)) for n, size in (("x", 3), ("y", 2))]
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def test_every_real_output_is_shown_with_its_operator_and_its_ends(file):
    shown = {tensor.name: tensor for tensor in onnx_tensors(file, {"x": np.float32([[1, 0.6, 500]])})}
    assert {name: tensor.operator for name, tensor in shown.items()} == {"real": 1, "kernel": 2, "product": 3, "y": 4}
    assert shown["real"].values.tolist() == [[1.0, 0.5, 68.5]]  # rounded to steps, and clipped
    assert shown["real"].ends == (-59.0, 68.5)
    kernel = (KERNEL.astype(float) - [0, 2]) * [1, 0.5]
    np.testing.assert_allclose(shown["product"].values, shown["real"].values @ kernel)
    assert shown["kernel"].ends is None  # it has no one scale


def test_nodes_read_those_that_made_their_inputs(file, tmp_path):
    reads = [frozenset(), {0}, frozenset(), {1, 2}, {3}]
    (tmp_path / "m").write_bytes(file)
    assert onnx_reads(file) == onnx_reads(tmp_path / "m") == reads


def test_stored_kernels_come_with_channels_first_around_zero(file):
    model = onnx_graph(file)
    ((name, values),) = onnx_constants(model)
    assert name == "w"
    assert values.tolist() == (KERNEL.T.astype(int) - [[0], [2]]).tolist()
    assert onnx_ends(model) == {"real": (-59.0, 68.5)}
