"""Estimate what the remaining Transposes of an ONNX graph cost: they move numbers at each inference.

Many of them mean that a file is slower than it could be, not that it is wrong.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from stages.formats.onnx.facts import ONNXFacts

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

IMAGE_RANK = 4  # batch, height, width, channels
KERNEL_BYTES = 1024  # larger constants are kernels: no shape depends on their values


def usual_transposes(facts: ONNXFacts) -> int | None:
    """Return how many of them a graph of these operators usually keeps; None if nothing is usual.

    One per image input or output and per matrix product (dense layers want their channels last), and half as many as
    convolutions: an export without optimizer passes has two per convolution.
    """
    convolutions = facts.operators.get("Conv", 0) + facts.operators.get("ConvInteger", 0)
    if not convolutions:  # recurrent layers and attention permute by themselves
        return None
    images = sum(len(spec.shape) == IMAGE_RANK for spec in (*facts.inputs, *facts.outputs))
    return images + convolutions // 2 + facts.operators.get("MatMul", 0)


def transposes_in_words(data: bytes, facts: ONNXFacts) -> str | None:
    """Return a warning with their cost if a file has more Transposes than graphs of its kind usually do, or None."""
    usual = usual_transposes(facts)
    if usual is None or facts.transposes <= usual:
        return None
    nodes, share = sum(facts.operators.values()), moved_share(data)
    cost = "" if share is None else f" and write {share:.0%} of the bytes that pass between nodes at an inference"
    return (
        f"{facts.transposes} of the ONNX graph's {nodes} nodes are Transposes{cost}: "
        "the file computes the same, somewhat slower; export.max_transposes makes a bound of it"
    )


def moved_share(data: bytes) -> float | None:
    """Return the share of the bytes written by all nodes for one sample that Transposes write.

    Computed from shapes alone, without constant operands; None if shapes don't follow from the graph.
    """
    import onnx

    graph = _without_kernels(onnx.load_from_string(data))
    try:
        # `data_prop` follows numbers through Shape, Gather and Concat: sizes of reshapes are computed that way.
        inferred = onnx.shape_inference.infer_shapes(graph, data_prop=True).graph
    except onnx.shape_inference.InferenceError:
        return None
    sizes = {value.name: _bytes_of(value) for value in (*inferred.value_info, *inferred.output)}
    written = {name: sizes.get(name) for node in graph.graph.node for name in node.output if name}
    known = [size for size in written.values() if size is not None]
    moved = [written[name] for node in graph.graph.node if node.op_type == "Transpose" for name in node.output]
    if not sum(known) or any(size is None for size in moved):
        return None
    return sum(size for size in moved if size is not None) / sum(known)


def _without_kernels(model: ModelProto) -> ModelProto:
    """Return the model for one sample, its large constants as inputs, so that they are not copied."""
    import onnx

    graph, kernels = model.graph, list(model.graph.initializer)
    del graph.initializer[:]
    for tensor in kernels:
        if prod(tensor.dims) * 4 <= KERNEL_BYTES and not tensor.external_data:
            graph.initializer.append(tensor)
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    for value in (*graph.input, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == "batch":
                dim.dim_value = 1
    return model


def _bytes_of(value: ValueInfoProto) -> int | None:
    """Return a tensor's size in bytes by its declared shape."""
    import onnx

    tensor = value.type.tensor_type
    if not tensor.HasField("shape") or not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
        return None
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return int(prod(dim.dim_value for dim in tensor.shape.dim) * kind.itemsize)
