"""Convert transposed convolutions whose output is larger than kernel and stride reach.

TensorFlow gives the size of the output, and output values that no input reaches are zero. tf2onnx expresses the missing
part as negative padding, which the standard does not have; it has output padding for that. A size that follows from the
input's own is computed at run time, by twenty nodes: here it is a constant whenever the layer's output has a known
size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tf2onnx.graph import Graph as Tf2onnxGraph
    from tf2onnx.graph import Node as Tf2onnxNode

Handler = Callable[[Any, Any, str, Any], None]
BIAS = 3  # its place among the inputs, after sizes, kernel and image


def transposed_handlers() -> dict[str, tuple[Handler, list[Any]]]:
    """Return handlers for tf2onnx's `custom_op_handlers`, by TensorFlow's operator."""
    return {operator: (_transposed, []) for operator in ("Conv2DBackpropInput", "Conv3DBackpropInputV2")}


def _transposed(graph: Tf2onnxGraph, node: Tf2onnxNode, _name: str, _args: Sequence[object]) -> None:
    import numpy as np
    from tf2onnx import utils
    from tf2onnx.onnx_opset.nn import ConvTranspose

    shape = node.output_shapes[0]
    if shape is not None and -1 not in shape[1:]:
        # The batch in it is a placeholder: ConvTranspose takes spatial sizes only.
        sizes = graph.make_const(utils.make_name("sizes"), np.array([1, *shape[1:]], np.int32)).output[0]
        graph.replace_input(node, node.input[0], sizes, 0)
    elif len(node.input) > BIAS:
        _bias_outside(graph, node)
    ConvTranspose.version_11(graph, node)
    if "pads" in node.attr:
        pads, missing = _as_padding(list(node.get_attr_value("pads")))
        node.set_attr("pads", pads)
        if any(missing):
            node.set_attr("output_padding", missing)


def _bias_outside(graph: Tf2onnxGraph, node: Tf2onnxNode) -> None:
    """Move a bias out of a convolution whose output tf2onnx will pad with zeros: the padding needs it, too."""
    readers = graph.find_output_consumers(node.output[0])
    added = graph.make_node("Add", [node.output[0], node.input[BIAS]], shapes=node.output_shapes)
    graph.remove_input(node, node.input[BIAS], BIAS)
    graph.replace_all_inputs(node.output[0], added.output[0], ops=readers)


def _as_padding(pads: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return pads (begins, then ends) without negative ones, and what to add at the end of each axis instead."""
    axes = len(pads) // 2
    totals = [pads[axis] + pads[axis + axes] for axis in range(axes)]
    # Both ends become zero, since `output_padding` is added at the end of an axis only.
    kept = [0 if totals[index % axes] < 0 else pad for index, pad in enumerate(pads)]
    return kept, [max(0, -total) for total in totals]
