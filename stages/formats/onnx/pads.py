"""Protect zero padding before a maximum from ONNX Runtime.

Its optimizer merges a Pad of zeros into a following MaxPool (PadFusion, seen in 1.31.1), whose own padding never wins:
for negative values, as in ResNetV2, the result differs. It leaves numbers other than 0 alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

NOT_NEGATIVE = ("Relu", "Sigmoid", "Softmax", "Softplus", "Exp", "Abs")  # then zeros never win, and the fusion is right


def keep_zeros(model: ModelProto) -> None:
    """Make such Pads in a ModelProto pad with the smallest normal number: not 0, and just as good."""
    import numpy as np
    import onnx

    graph = model.graph
    maker = {output: node for node in graph.node for output in node.output}
    pooled = {node.input[0] for node in graph.node if node.op_type == "MaxPool"}
    for node in graph.node:
        before = maker.get(node.input[0]) if node.op_type == "Pad" else None
        if node.op_type != "Pad" or node.output[0] not in pooled:
            continue
        if (before is not None and before.op_type in NOT_NEGATIVE) or not _pads_zeros(graph, node):
            continue
        name = f"{node.name}/least"
        # The smallest normal number: a subnormal one may be flushed to zero. onnxsim and onnx's own optimizer merge the
        # pair too (https://github.com/onnxsim/onnxsim/issues/290).
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(np.finfo(np.float32).tiny), name))
        del node.input[2:]
        node.input.append(name)


def _pads_zeros(graph: GraphProto, node: NodeProto) -> bool:
    """Return whether a Pad puts 0 around float32 values, on all axes."""
    import onnx

    mode = next((attribute.s for attribute in node.attribute if attribute.name == "mode"), b"constant")
    if mode != b"constant" or any(node.input[3:]):
        return False
    value_name = node.input[2] if len(node.input) > 2 else ""
    value = next((tensor for tensor in graph.initializer if tensor.name == value_name), None)
    if value is None:
        return not value_name
    return value.data_type == onnx.TensorProto.FLOAT and not onnx.numpy_helper.to_array(value).any()
