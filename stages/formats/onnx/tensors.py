"""Compute the tensors inside an ONNX file with ONNX Runtime, unoptimized, and read the file's facts about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.formats.format import FileTensor
from stages.formats.onnx.session import LAYOUT, as_layout
from stages.formats.tensors import MATRIX, ends_of, reads_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto


def onnx_tensors(file: bytes | Path, arrays: Mapping[str, Any]) -> Iterator[FileTensor]:
    import numpy as np
    import onnx
    import onnxruntime

    model = onnx_graph(file)
    makers = [(name, index) for index, node in enumerate(model.graph.node) for name in node.output if name]
    names = [name for name, _ in makers]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)  # the runtime infers their types
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    if isinstance(file, Path):
        # The graph is passed as bytes, so ONNX Runtime does not know in which folder its data lies.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(file.parent))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    layout = next((entry.value for entry in model.metadata_props if entry.key == LAYOUT), "")
    feeds = {name: as_layout(values, layout) for name, values in arrays.items()}
    ends = onnx_ends(model)
    for (name, index), values in zip(makers, session.run(names, feeds), strict=True):
        # Sequences and optional values are no arrays; quantized ones appear again after their DequantizeLinear.
        if isinstance(values, np.ndarray) and values.dtype.kind == "f":
            yield FileTensor(name, values, index, ends.get(name))


def onnx_graph(file: bytes | Path) -> ModelProto:
    """Return the ModelProto; external data is not loaded."""
    import onnx

    return onnx.load_from_string(file) if isinstance(file, bytes) else onnx.load(file, load_external_data=False)


def onnx_reads(file: bytes | Path) -> list[frozenset[int]]:
    """Return for each node of a file the places of those whose outputs it reads."""
    nodes = onnx_graph(file).graph.node
    return reads_of([(list(node.input), [name for name in node.output if name]) for node in nodes])


def onnx_ends(model: ModelProto) -> dict[str, tuple[float, float]]:
    """Return the ends of what DequantizeLinear gives with one scale for the whole tensor."""
    from onnx import numpy_helper

    held = {tensor.name: tensor for tensor in model.graph.initializer}
    ends_by_name = {}
    for node in model.graph.node:
        names = [name for name in node.input[1:] if name in held]
        if node.op_type == "DequantizeLinear" and len(names) == len(node.input) - 1 > 1:
            scale, zero_point = (numpy_helper.to_array(held[name]) for name in names)
            ends = ends_of(scale.item(), int(zero_point.item()), zero_point.dtype) if scale.size == 1 else None
            if ends is not None:
                ends_by_name[node.output[0]] = ends
    return ends_by_name


def onnx_constants(model: ModelProto) -> Iterator[tuple[str, NDArray[Any]]]:
    import numpy as np
    from onnx import numpy_helper

    held = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in held:
            continue
        if held[node.input[0]].data_location:  # its data is in another file
            continue
        values = numpy_helper.to_array(held[node.input[0]])
        if values.ndim >= MATRIX and values.dtype.itemsize == 1:
            around = numpy_helper.to_array(held[node.input[2]]) if len(node.input) > 2 and node.input[2] in held else 0
            axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 0) if np.size(around) > 1 else 0
            shifted = np.moveaxis(values.astype(np.int64), axis, 0)
            yield node.input[0], shifted - np.reshape(around, (-1,) + (1,) * (values.ndim - 1))
