"""Override ONNX Runtime's quantizer for individual weights for which its own choice is wrong.

A bias is stored in steps of its input's scale times its kernel's. The quantizer (1.31.1) gives a filter of zeros the
scale 1.0, in which a bias is lost; a filter of nearly zero values has steps so small that its bias fills all 32 bits,
and sums with it overflow. And it gives each column of a product its scale although the kernel that runs the product
takes one for all: matrices of more than two dimensions, and constants on the left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

# ONNX Runtime itself raises a scale until the bias just fits 32 bits
# (https://github.com/microsoft/onnxruntime/pull/22020), which leaves no room for the sum.
BIAS_STEPS = 2**28  # of 2**31: the rest is for sums of 100,000 products of two bytes
CHANNELS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0}  # a kernel's axis of output channels; Gemm's depends on transB
RANGE = 64  # of weights, in steps on each side of zero: 7 bits
Ranges = Mapping[str, tuple[float, float]]
Overrides = dict[str, list[dict[str, Any]]]


def weight_overrides(
    model: ModelProto, ranges: Ranges, folder: Path | None, *, per_channel: bool
) -> tuple[Overrides, list[str]]:
    """Return settings by initializer for the quantizer (TensorQuantOverrides), and notes on fallbacks.

    `ranges` are those of activations; `folder` holds data of large models.
    """
    import numpy as np
    import onnx

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    overrides: Overrides = {}
    products = list(dict.fromkeys(_products(model.graph, constants))) if per_channel else []
    for name in products:
        overrides[name] = [{"symmetric": True}]
    for name, axis, needed in _needs(model.graph, constants, ranges, folder):
        values = np.abs(onnx.numpy_helper.to_array(constants[name], str(folder or "")))
        own = values.max(axis=tuple(n for n in range(values.ndim) if n != axis))
        if per_channel and name not in overrides:
            # A Gemm may have one bias for all channels: then there is no need by channel, and the kernel keeps its own
            # scales.
            limits = np.maximum(own, needed * RANGE) if needed.shape == own.shape else own
            # Only then: an override for every kernel would hide what the quantizer does by itself.
            if (limits > own).any():
                overrides[name] = [{"axis": axis, **_limits(limit)} for limit in limits]
        elif float(needed.max()) * RANGE > float(own.max()):
            overrides[name] = [{"symmetric": True, **_limits(needed.max() * RANGE)}]
    return overrides, [_said(len(products))] if products else []


def _said(count: int) -> str:
    return (
        f"{count} of the weights in products of matrices have one scale instead of one a channel, as ONNX Runtime's "
        "kernels want them there (in locally connected layers, and on the left)"
    )


def _limits(limit: float) -> dict[str, Any]:
    import numpy as np

    return {"rmin": np.float32(-limit), "rmax": np.float32(limit)}


def _products(graph: GraphProto, constants: Mapping[str, TensorProto]) -> Iterator[str]:
    """Yield constants of products that take only one scale."""
    for node in graph.node:
        if node.op_type == "MatMul":
            if node.input[0] in constants:
                yield node.input[0]
            if node.input[1] in constants and len(constants[node.input[1]].dims) != 2:
                yield node.input[1]


def _needs(
    graph: GraphProto, constants: Mapping[str, TensorProto], ranges: Ranges, folder: Path | None
) -> Iterator[tuple[str, int, NDArray[Any]]]:
    """Yield kernels with a bias, their channel axis, and the scale that each channel (C,) needs for its bias to fit."""
    import numpy as np
    import onnx

    wanted: dict[tuple[str, int], NDArray[Any]] = {}
    for node in graph.node:
        has_bias = len(node.input) > 2 and node.input[2] in constants
        if node.op_type not in CHANNELS or not has_bias or node.input[1] not in constants:
            continue
        if node.input[0] not in ranges:
            continue
        low, high = ranges[node.input[0]]
        # As the quantizer computes it: a range is widened to hold zero, which must be a step of it.
        step = (max(high, 0.0) - min(low, 0.0)) / 255 or 1.0
        bias = np.abs(onnx.numpy_helper.to_array(constants[node.input[2]], str(folder or ""))).astype(np.float64)
        key = node.input[1], _axis(node)
        need = bias / (step * BIAS_STEPS)
        # A kernel that two nodes share must fit the biases of both.
        wanted[key] = np.maximum(wanted[key], need) if key in wanted and wanted[key].shape == need.shape else need
    for (name, axis), need in wanted.items():
        yield name, axis, need


def _axis(node: NodeProto) -> int:
    if node.op_type != "Gemm":
        return CHANNELS[node.op_type]
    return 0 if any(attribute.name == "transB" and attribute.i for attribute in node.attribute) else 1
