"""Write the TFLite file of a probe: one operator with a fused ReLU. int8 has a scale per channel, as converted."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from stages.formats.probe import Probe, ProbeScheme
from stages.formats.probe_models import INPUT_SCALE, OUTPUT_SCALE, WEIGHT_SCALE, probe_shapes, probe_weights

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import BufferT, TensorT
    from numpy.typing import NDArray


def tflite_model(probe: Probe, scheme: ProbeScheme) -> bytes:
    """Return the TFLite file of a probe (schema version 3, tensorflow/lite/schema/schema.fbs)."""
    import flatbuffers
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    kernel, bias = probe_weights(probe)
    dense, integer = probe.kind == "dense", scheme == "int8"
    if probe.kind == "depthwise":
        kernel = kernel.transpose(3, 1, 2, 0)  # (1, height, width, channels)
    if dense:
        kernel = kernel.reshape(probe.outputs, probe.inputs)
    channel_axis = 3 if probe.kind == "depthwise" else 0
    weight_scales = np.full(probe.outputs, WEIGHT_SCALE, np.float32)
    if integer:
        kernel = np.rint(kernel * 127).astype(np.int8)
        bias = np.rint(bias * 1000).astype(np.int32)
    shapes = probe_shapes(probe)
    types = schema.TensorType
    number, wide = (types.INT8, types.INT32) if integer else (types.FLOAT32, types.FLOAT32)
    model = schema.ModelT()
    model.version, model.description = 3, "secateur probe"
    model.buffers = [_buffer(schema, data) for data in (None, kernel, bias)]
    tensors = [
        _tensor(schema, "input", shapes[0], number, 0, [INPUT_SCALE] if integer else None),
        _tensor(schema, "kernel", kernel.shape, number, 1, weight_scales if integer else None, channel_axis),
        _tensor(schema, "bias", bias.shape, wide, 2, weight_scales * INPUT_SCALE if integer else None),
        _tensor(schema, "output", shapes[1], number, 0, [OUTPUT_SCALE] if integer else None),
    ]
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [0, 1, 2], [3]
    code, operator.builtinOptionsType, operator.builtinOptions = _tflite_options(schema, probe)
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = tensors, [0], [3], [operator]
    codes = schema.OperatorCodeT()
    # Both: runtimes before the new field read the old one only.
    codes.builtinCode = codes.deprecatedBuiltinCode = code
    # The versions in which these operators take int8 (tensorflow/lite/tools/versioning/op_version.cc).
    codes.version = (4 if dense else 3) if integer else 1
    model.operatorCodes, model.subgraphs = [codes], [graph]
    builder = flatbuffers.Builder(kernel.nbytes + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tflite_options(schema: ModuleType, probe: Probe) -> tuple[int, int, Any]:
    """Return the operator's code, and its options by type."""
    kinds = {
        "conv": ("CONV_2D", "Conv2DOptions"),
        "depthwise": ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions"),
        "dense": ("FULLY_CONNECTED", "FullyConnectedOptions"),
    }
    code, name = kinds[probe.kind]
    options = getattr(schema, f"{name}T")()
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU
    if probe.kind != "dense":
        options.padding = schema.Padding.SAME
        options.strideH, options.strideW = probe.strides
    if probe.kind == "depthwise":
        options.depthMultiplier = 1
    return getattr(schema.BuiltinOperator, code), getattr(schema.BuiltinOptions, name), options


def _buffer(schema: ModuleType, data: NDArray[Any] | None) -> BufferT:
    import numpy as np

    buffer = schema.BufferT()
    if data is not None:
        buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
    return buffer


def _tensor(
    schema: ModuleType,
    name: str,
    shape: Sequence[int],
    kind: int,
    buffer: int,
    scales: Sequence[float] | NDArray[Any] | None,
    axis: int = 0,
) -> TensorT:
    import numpy as np

    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), list(shape), kind, buffer
    if scales is not None:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = np.asarray(scales, np.float32)
        tensor.quantization.zeroPoint = np.zeros(len(tensor.quantization.scale), np.int64)
        tensor.quantization.quantizedDimension = axis
    return tensor
