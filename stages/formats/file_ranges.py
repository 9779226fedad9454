"""The ranges of a file's tensors and the steps of its constants: what quantization gave them, as the file holds it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.records.artifacts import Kind

SMALL_BYTES, MATRIX, IMAGES = 2, 2, 4  # bytes of what is quantized small; axes of a kernel, and of an image's


def ends_of(scale: float, zero_point: int, dtype: Any) -> tuple[float, float] | None:
    """The least and the greatest number of a quantized tensor; None of one that is not, or in more than 16 bits."""
    import numpy as np

    kind = np.dtype(dtype)
    if not scale or kind.kind not in "iu" or kind.itemsize > SMALL_BYTES:
        return None
    limits = np.iinfo(kind)
    return (float(limits.min) - zero_point) * float(scale), (float(limits.max) - zero_point) * float(scale)


def onnx_ends(model: Any) -> dict[str, tuple[float, float]]:
    """Of what DequantizeLinear gives with one scale for all of a tensor."""
    from onnx import numpy_helper

    held = {tensor.name: tensor for tensor in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        names = [name for name in node.input[1:] if name in held]
        if node.op_type == "DequantizeLinear" and len(names) == len(node.input) - 1 > 1:
            scale, zero_point = (numpy_helper.to_array(held[name]) for name in names)
            ends = ends_of(scale.item(), int(zero_point.item()), zero_point.dtype) if scale.size == 1 else None
            if ends is not None:
                found[node.output[0]] = ends
    return found


def input_ends(file: bytes) -> dict[str, tuple[float, float]]:
    """Of a TFLite file the least and the greatest number of each quantized input, by name."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(file, 0)
    if not model.SignatureDefsLength():
        return {}
    signature = model.SignatureDefs(0)
    graph, found = model.Subgraphs(signature.SubgraphIndex()), {}
    for place in range(signature.InputsLength()):
        entry = signature.Inputs(place)
        ends = _stored_ends(schema, graph.Tensors(entry.TensorIndex()))
        if ends is not None:
            found[entry.Name().decode()] = ends
    return found


def _stored_ends(schema: Any, tensor: Any) -> tuple[float, float] | None:
    types = {schema.TensorType.INT8: "int8", schema.TensorType.UINT8: "uint8", schema.TensorType.INT16: "int16"}
    quantization = tensor.Quantization()
    if tensor.Type() not in types or quantization is None or quantization.ScaleLength() != 1:
        return None
    return ends_of(quantization.Scale(0), int(quantization.ZeroPoint(0)), types[tensor.Type()])


def small_constants(kind: Kind, file: bytes) -> dict[str, Any]:
    """The 8-bit constants of two axes or more, as they are stored around 0, with their channels first; by name."""
    import onnx

    found = _tflite_constants(file) if kind == "tflite-model" else _onnx_constants(onnx.load_from_string(file))
    return dict(found)


def _tflite_constants(data: bytes) -> Iterator[tuple[str, Any]]:
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    for graph in (model.Subgraphs(place) for place in range(model.SubgraphsLength())):
        for tensor in (graph.Tensors(place) for place in range(graph.TensorsLength())):
            buffer = model.Buffers(tensor.Buffer())
            if tensor.Type() != schema.TensorType.INT8 or not buffer.DataLength() or tensor.ShapeLength() < MATRIX:
                continue
            quantization, shape = tensor.Quantization(), tensor.ShapeAsNumpy()
            values = buffer.DataAsNumpy().view(np.int8).reshape(shape)
            axis = 3 if len(shape) == IMAGES and shape[0] == 1 else quantization.QuantizedDimension()  # depthwise
            yield tensor.Name().decode(errors="replace"), np.moveaxis(values, axis, 0)


def _onnx_constants(model: Any) -> Iterator[tuple[str, Any]]:
    import numpy as np
    from onnx import numpy_helper

    held = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in held:
            continue
        if held[node.input[0]].data_location:  # it stands in another file
            continue
        values = numpy_helper.to_array(held[node.input[0]])
        if values.ndim >= MATRIX and values.dtype.itemsize == 1:
            around = numpy_helper.to_array(held[node.input[2]]) if len(node.input) > 2 and node.input[2] in held else 0
            axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 0) if np.size(around) > 1 else 0
            shifted = np.moveaxis(values.astype(np.int64), axis, 0)
            yield node.input[0], shifted - np.reshape(around, (-1,) + (1,) * (values.ndim - 1))
