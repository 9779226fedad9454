"""Run ONNX files in their runtime: by name, in float32, any number of samples."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pipeline.errors import DeviceError
from stages.formats.onnx.session import load_onnx


def onnx_sum(batch: str | int) -> bytes:
    """Build y = a + 2 b over (batch, 3)."""
    shape = [batch, 3]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("a", "b", "y")]
    nodes = [helper.make_node("Add", ["b", "b"], ["twice"]), helper.make_node("Add", ["a", "twice"], ["y"])]
    graph = helper.make_graph(nodes, "sum", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("batch", ["batch", 2])
def test_onnx_runs_any_number_of_samples_whatever_the_batch_of_the_file(batch: str | int) -> None:
    model = load_onnx(onnx_sum(batch))
    a, b = np.arange(15, dtype=np.float32).reshape(5, 3), np.ones((5, 3), np.float32)
    np.testing.assert_array_equal(model.run({"b": b, "a": a})["y"], a + 2)
    assert [spec.name for spec in model.inputs] == ["a", "b"]
    assert model.outputs[0].shape == (None if batch == "batch" else 2, 3)
    assert model.outputs[0].dtype == "float32"


def test_a_wrong_input_shape_is_an_error_of_the_runtime() -> None:
    with pytest.raises(DeviceError, match="ONNX Runtime can't run the file"):
        load_onnx(onnx_sum("batch")).run({"a": np.ones((2, 4), np.float32), "b": np.ones((2, 4), np.float32)})
