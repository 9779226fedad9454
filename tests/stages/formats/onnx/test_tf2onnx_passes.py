"""Check that tf2onnx's passes, run in place, give the graph of its own way, and never an unchanged graph."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import tf2onnx
from tf2onnx import optimizer

from stages.formats.onnx.convert import convert_onnx
from stages.formats.onnx.tf2onnx_passes import InPlacePasses


def operators(model: Any, **passes: Any) -> Counter[str]:
    graph, _ = tf2onnx.convert.from_keras(model, opset=17, **passes)
    return Counter(node.op_type for node in graph.graph.node)


def test_they_end_in_the_graph_that_tf2onnx_makes(tiny_xception: Any) -> None:
    passes = InPlacePasses()
    found = operators(tiny_xception, optimizers={"in_place": lambda: passes})
    assert passes.finished
    assert found == operators(tiny_xception)
    assert found["Transpose"] < operators(tiny_xception, optimizers={})["Transpose"]


def test_a_pass_that_fails_is_left_out_alone(tiny_xception: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = convert_onnx(tiny_xception, "float32")

    def fail(*_: Any) -> None:
        raise RuntimeError("a pass of tf2onnx's fails")

    monkeypatch.setattr(optimizer._get_optimizers()["einsum_optimizer"], "_optimize", fail)
    assert convert_onnx(tiny_xception, "float32") == expected  # it has no einsum
