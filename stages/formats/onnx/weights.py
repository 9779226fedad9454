"""Store weights of an ONNX graph in 8 bits and compute with them in float32: a quarter of the file size.

ONNX Runtime's quantizer has no such scheme for convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

LEVELS = 127  # -127…127: symmetric, so that zero stays zero
# A kernel's axis of output channels; Gemm's depends on transB.
CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": None, "MatMul": -1, "Gemm": 1}


def store_weights_in_int8(
    model: ModelProto, folder: Path | None = None, *, per_channel: bool, left_out: Sequence[str] = ()
) -> ModelProto:
    """Store kernels of convolutions and products as int8 with a scale per output channel, or one per kernel.

    DequantizeLinear turns them into float32 before use. Nodes in `left_out` keep theirs, and so do others that read the
    same. The kernel of a transposed convolution has one scale: groups share its channel axis. `folder` holds external
    tensors of large models.
    """
    import numpy as np
    import onnx

    small: ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    axes = _kernels(small.graph, frozenset(left_out))
    added, casts = [], []
    for tensor in small.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor, str(folder or ""))
        # Infinity would give a scale of infinity, and zeros after it.
        if tensor.name not in axes or values.dtype != np.float32 or values.ndim < 2 or not np.isfinite(values).all():
            continue
        axis = axes[tensor.name] if per_channel else None
        others = None if axis is None else tuple(n for n in range(values.ndim) if n != axis % values.ndim)
        # A kernel of zeros has no scale; any positive one keeps its zeros.
        scale = np.maximum(np.abs(values).max(axis=others, keepdims=axis is not None) / LEVELS, np.float32(1e-12))
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.rint(values / scale).astype(np.int8), f"{name}_int8"))
        shape = () if axis is None else (-1,)
        added.append(onnx.numpy_helper.from_array(scale.reshape(shape).astype(np.float32), f"{name}_scale"))
        settings: dict[str, Any] = {} if axis is None else {"axis": axis % values.ndim}
        inputs = [f"{name}_int8", f"{name}_scale"]
        casts.append(onnx.helper.make_node("DequantizeLinear", inputs, [name], **settings))
    nodes = list(small.graph.node)
    del small.graph.node[:]
    small.graph.node.extend([*casts, *nodes])
    small.graph.initializer.extend(added)
    return small


def _kernels(graph: GraphProto, left_out: frozenset[str]) -> dict[str, int | None]:
    """Map initializers that only such nodes read as kernels to the axis of their output channels."""
    axes: dict[str, int | None] = {}
    other: set[str] = set()
    for node in graph.node:
        kernel = node.input[1] if node.op_type in CHANNEL_AXIS and node.name not in left_out else None
        other |= {name for name in node.input if name != kernel}
        if kernel is None:
            continue
        axis = CHANNEL_AXIS[node.op_type]
        if node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute):
            axis = 0
        # Two nodes read the same kernel with channels on other axes: one scale for all is right for both.
        if axes.setdefault(kernel, axis) != axis:
            axes[kernel] = None
    return {name: axis for name, axis in axes.items() if name not in other}
