"""Take each int8 operator of a TFLite file alone, and make the same one in float32.

Whether int8 pays depends on the operator's kind, its shape and the core: XNNPACK takes input channels in groups, so
that a convolution of one channel is mostly padding, and has no int8 kernel at all for some operators.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from stages.formats.tflite.unpacked import unpacked
from stages.formats.twin import Twin

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import BufferT, ModelT, OperatorT, SubGraphT, TensorT

CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE"})
IMAGE = {"TRANSPOSE_CONV": 2}  # which input holds the activations, where it is not the first


def twins(data: bytes, source: str) -> Iterator[Twin]:
    """Yield a twin for each operator that reads and makes int8 tensors; ModelError for damaged files and control flow.

    None for operators with a state.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = unpacked(data, source)
    graph = model.subgraphs[0]
    kinds = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        kind = kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if kind in CONVERSIONS or not len(operator.inputs):
            continue
        read, made = graph.tensors[operator.inputs[IMAGE.get(kind, 0)]], graph.tensors[operator.outputs[0]]
        with_state = any(graph.tensors[tensor].isVariable for tensor in operator.inputs if tensor >= 0)
        if with_state or not read.type == made.type == schema.TensorType.INT8:
            continue
        channels = int(read.shape[-1]) if len(read.shape) else 1
        alone = _alone(schema, model, graph, operator)
        yield Twin(kind, made.name.decode(), channels, _packed(alone), _packed(_in_float(schema, alone)))


def _alone(schema: ModuleType, model: ModelT, graph: SubGraphT, operator: OperatorT) -> ModelT:
    """Return a model of one operator; what it reads and is not constant becomes an input."""
    places = list(dict.fromkeys(int(t) for t in (*operator.inputs, *operator.outputs) if t >= 0))
    one, inner, only = schema.ModelT(), schema.SubGraphT(), copy.copy(operator)
    one.version, one.description = model.version, "secateur twin"
    one.operatorCodes, one.buffers = [model.operatorCodes[operator.opcodeIndex]], [schema.BufferT()]
    inner.tensors, inner.inputs = [], []
    for place in places:
        tensor = copy.copy(graph.tensors[place])
        buffer = model.buffers[tensor.buffer]
        tensor.buffer = len(one.buffers) if _holds(buffer) else 0
        if tensor.buffer:
            one.buffers.append(buffer)
        elif place not in operator.outputs:
            inner.inputs.append(len(inner.tensors))
        inner.tensors.append(tensor)
    only.opcodeIndex = 0
    only.inputs = [places.index(tensor) if tensor >= 0 else -1 for tensor in operator.inputs]
    only.outputs = [places.index(tensor) for tensor in operator.outputs]
    inner.outputs, inner.operators = only.outputs, [only]
    one.subgraphs = [inner]
    return one


def _in_float(schema: ModuleType, model: ModelT) -> ModelT:
    """Return the same model in float32: constants in real numbers."""
    real = copy.copy(model)
    graph = copy.copy(model.subgraphs[0])
    real.subgraphs, real.buffers = [graph], list(model.buffers)
    graph.tensors = [_real(schema, tensor, real.buffers) for tensor in graph.tensors]
    return real


def _real(schema: ModuleType, tensor: TensorT, buffers: list[BufferT]) -> TensorT:
    """Return the tensor in float32 if it is quantized, and put its numbers into `buffers`; others are shapes."""
    import numpy as np

    quantization = tensor.quantization
    types = {schema.TensorType.INT8: np.int8, schema.TensorType.INT32: np.int32}
    if quantization is None or quantization.scale is None or tensor.type not in types:
        return tensor
    real = copy.copy(tensor)
    real.type, real.quantization = schema.TensorType.FLOAT32, None
    if tensor.buffer:
        stored = np.asarray(buffers[tensor.buffer].data, np.uint8).view(types[tensor.type])
        # One scale for all: a kernel takes as long whatever its numbers are.
        values = stored.astype(np.float32) * np.float32(quantization.scale[0])
        buffers[tensor.buffer] = schema.BufferT()
        buffers[tensor.buffer].data = values.view(np.uint8)
    return real


def _holds(buffer: BufferT) -> bool:
    return buffer.data is not None and len(buffer.data) > 0


def _packed(model: ModelT) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
