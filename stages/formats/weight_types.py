"""Count the types in which an exported file stores weights: only this shows that a scheme left them unchanged.

Weights are constants with more than one axis: biases and scales stay wider in every scheme.
"""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto

COUNTED = frozenset({"float32", "float16", "bfloat16", "int16", "int8", "uint8", "int4", "uint4"})  # no index types


def tflite_weights(data: bytes) -> dict[str, int]:
    """Count a TFLite file's weights by type; weights shared by two tensors are counted once."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name.lower() for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
    model, counts, seen = schema.Model.GetRootAs(data, 0), Counter[str](), set[int]()
    for graph in (model.Subgraphs(index) for index in range(model.SubgraphsLength())):
        operators = [graph.Operators(index) for index in range(graph.OperatorsLength())]
        # In order, so that of two tensors with one buffer it is the first. No operator reads the scales of blocks.
        read = sorted({o.Inputs(i) for o in operators for i in range(o.InputsLength()) if o.Inputs(i) >= 0})
        for tensor in (graph.Tensors(index) for index in read):
            buffer = tensor.Buffer()
            # Buffer 0 is empty and stands for all tensors that are no constants.
            if buffer not in seen and tensor.ShapeLength() > 1 and model.Buffers(buffer).DataLength():
                seen.add(buffer)
                counts[names[tensor.Type()]] += prod(int(size) for size in tensor.ShapeAsNumpy())
    return _counted(counts)


def onnx_weights(model: ModelProto) -> dict[str, int]:
    """Count an ONNX ModelProto's weights by type; their data may be external."""
    import onnx

    counts = Counter[str]()
    for tensor in model.graph.initializer:
        if len(tensor.dims) > 1:
            counts[onnx.TensorProto.DataType.Name(tensor.data_type).lower()] += prod(tensor.dims)
    names = {"float": "float32"}
    return _counted(Counter({names.get(name, name): count for name, count in counts.items()}))


def _counted(counts: Counter[str]) -> dict[str, int]:
    return {name: counts[name] for name in sorted(counts) if name in COUNTED}
