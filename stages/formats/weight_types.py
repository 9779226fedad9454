"""What the weights of an exported file are stored in: only here it shows that a scheme left them as they were.

Weights are constants with more than one axis: biases and scales stay wider in every scheme.
"""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import Any

COUNTED = frozenset({"float32", "float16", "bfloat16", "int16", "int8", "uint8", "int4", "uint4"})  # indices are none


def tflite_weights(data: bytes) -> dict[str, int]:
    """How many weights a TFLite file holds, by type; those that two tensors share are counted once."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name.lower() for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
    model, found, seen = schema.Model.GetRootAs(data, 0), Counter[str](), set[int]()
    for graph in (model.Subgraphs(index) for index in range(model.SubgraphsLength())):
        for tensor in (graph.Tensors(index) for index in range(graph.TensorsLength())):
            place = tensor.Buffer()
            if place not in seen and tensor.ShapeLength() > 1 and model.Buffers(place).DataLength():
                seen.add(place)
                found[names[tensor.Type()]] += prod(int(size) for size in tensor.ShapeAsNumpy())
    return _counted(found)


def onnx_weights(model: Any) -> dict[str, int]:
    """How many weights an ONNX ModelProto holds, by type; their data may stand outside."""
    import onnx

    found = Counter[str]()
    for tensor in model.graph.initializer:
        if len(tensor.dims) > 1:
            found[onnx.TensorProto.DataType.Name(tensor.data_type).lower()] += prod(tensor.dims)
    names = {"float": "float32"}
    return _counted(Counter({names.get(name, name): count for name, count in found.items()}))


def _counted(found: Counter[str]) -> dict[str, int]:
    return {name: found[name] for name in sorted(found) if name in COUNTED}
