"""Compare the cost of Transposes with counts by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pipeline.records.artifacts import TensorSpec
from stages.formats.onnx.facts import ONNXFacts
from stages.formats.onnx.transposes import moved_share, transposes_in_words, usual_transposes


def video(batch: Any = "batch", size: Any = 4) -> bytes:
    """Build Transpose, Conv, Relu, Transpose: 2, 3, 3 and 3 channels of 4×4×4 numbers, channels last at both ends."""
    kernel = onnx.numpy_helper.from_array(np.ones((3, 2, 3, 3, 3), np.float32), "kernel")
    nodes = [
        helper.make_node("Transpose", ["x"], ["a"], perm=[0, 4, 1, 2, 3]),
        helper.make_node("Conv", ["a", "kernel"], ["b"], pads=[1] * 6),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Transpose", ["c"], ["y"], perm=[0, 2, 3, 4, 1]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, size, 4, 4, 2])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, size, 4, 4, 3])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [kernel])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


def facts(rank: int = 5, **operators: int) -> ONNXFacts:
    spec = TensorSpec(name="x", shape=(None,) * rank, dtype="float32")
    return ONNXFacts(
        scheme="float32", opset=17, ir_version=8, inputs=(spec,), outputs=(spec,), operators=dict(operators)
    )


def test_the_share_is_that_of_the_bytes_that_nodes_write() -> None:
    assert moved_share(video()) == pytest.approx((2 + 3) / (2 + 3 + 3 + 3))
    assert moved_share(video(batch=1)) == moved_share(video())
    assert moved_share(video(size="rows")) is None  # nobody knows


def test_the_words_tell_count_and_cost() -> None:
    said = transposes_in_words(video(), facts(Transpose=2, Conv=1, Relu=1))
    assert said is not None
    assert said.startswith("2 of the ONNX graph's 4 nodes are Transposes and write 45% of the bytes")
    assert transposes_in_words(video(), facts(Transpose=2, Conv=4, Relu=1)) is None


def test_what_is_usual() -> None:
    assert usual_transposes(facts(4, Conv=5, MatMul=1)) == 2 + 2 + 1
    assert usual_transposes(facts(5, ConvInteger=4)) == 2
    assert usual_transposes(facts(3, MatMul=4, Transpose=8)) is None
