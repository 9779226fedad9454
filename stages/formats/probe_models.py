"""Model files of one layer, in the form in which converters write it, made without a converter: a millisecond each.

A TFLite file has one operator with a fused ReLU; int8 has a scale a channel, as the converter gives. An ONNX file has
one Conv or Gemm and a Relu; int8 is QDQ per channel, as the export stage writes it. Weights are random.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from typing import Any

from stages.formats.probe import Probe, ProbeFormat, ProbeScheme

INPUT_SCALE, WEIGHT_SCALE, OUTPUT_SCALE = 0.02, 0.01, 0.05
SEVEN_BITS = 64  # export's ONNX weights use 7 of 8 bits


def probe_archive(probes: Sequence[Probe], target_format: ProbeFormat, scheme: ProbeScheme) -> bytes:
    """A zip file with a model file for each probe, in order; equal probes give equal bytes."""
    make = tflite_model if target_format == "tflite" else onnx_model
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for place, probe in enumerate(probes):
            archive.writestr(zipfile.ZipInfo(f"{place:05d}"), make(probe, scheme))
    return buffer.getvalue()


def _weights(probe: Probe) -> tuple[Any, Any]:
    """Kernel (outputs, height, width, inputs of a group) and bias, float32."""
    import numpy as np

    rng = np.random.default_rng(0)
    taken = 1 if probe.kind == "depthwise" else probe.inputs // probe.groups
    kernel = rng.uniform(-1, 1, (probe.outputs, *probe.kernel, taken)).astype(np.float32)
    return kernel, rng.uniform(-1, 1, probe.outputs).astype(np.float32)


def tflite_model(probe: Probe, scheme: ProbeScheme) -> bytes:
    """The TFLite file of a probe (schema version 3, tensorflow/lite/schema/schema.fbs)."""
    import flatbuffers
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    kernel, bias = _weights(probe)
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
    shapes = _shapes(probe)
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
    codes.builtinCode = codes.deprecatedBuiltinCode = code
    codes.version = (4 if dense else 3) if integer else 1
    model.operatorCodes, model.subgraphs = [codes], [graph]
    builder = flatbuffers.Builder(kernel.nbytes + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _shapes(probe: Probe) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Input and output, channels last."""
    if probe.kind == "dense":
        return (probe.height, probe.inputs), (probe.height, probe.outputs)
    rows, columns = -(-probe.height // probe.strides[0]), -(-probe.width // probe.strides[1])
    return (1, probe.height, probe.width, probe.inputs), (1, rows, columns, probe.outputs)


def _tflite_options(schema: Any, probe: Probe) -> tuple[int, int, Any]:
    """The operator's code, and its options by type."""
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


def _buffer(schema: Any, data: Any) -> Any:
    import numpy as np

    buffer = schema.BufferT()
    if data is not None:
        buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
    return buffer


def _tensor(schema: Any, name: str, shape: Any, kind: int, buffer: int, scales: Any, axis: int = 0) -> Any:
    import numpy as np

    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), list(shape), kind, buffer
    if scales is not None:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = np.asarray(scales, np.float32)
        tensor.quantization.zeroPoint = np.zeros(len(tensor.quantization.scale), np.int64)
        tensor.quantization.quantizedDimension = axis
    return tensor


def onnx_model(probe: Probe, scheme: ProbeScheme) -> bytes:
    """The ONNX file of a probe, float32 at its ends (operator set 17)."""
    from onnx import TensorProto, helper

    kernel, bias = _weights(probe)
    dense = probe.kind == "dense"
    kernel = kernel.reshape(probe.outputs, probe.inputs).T if dense else kernel.transpose(0, 3, 1, 2)
    axis = 1 if dense else 0
    constants, nodes, names = _onnx_weights(kernel, bias, axis, scheme == "int8")
    attributes: dict[str, Any] = {}
    if not dense:
        groups = probe.inputs if probe.kind == "depthwise" else probe.groups
        attributes = {"auto_pad": "SAME_UPPER", "strides": list(probe.strides), "group": groups}
        attributes["kernel_shape"] = list(probe.kernel)
    nodes.append(helper.make_node("Gemm" if dense else "Conv", names, ["made"], **attributes))
    if scheme == "int8":
        nodes.append(helper.make_node("Relu", ["made"], ["positive"]))
        nodes.append(helper.make_node("QuantizeLinear", ["positive", "output_scale", "zero"], ["output_q"]))
        nodes.append(helper.make_node("DequantizeLinear", ["output_q", "output_scale", "zero"], ["output"]))
    else:
        nodes.append(helper.make_node("Relu", ["made"], ["output"]))
    ends = [shape if dense else (shape[0], shape[3], *shape[1:3]) for shape in _shapes(probe)]
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(("input", "output"), ends, strict=True)
    ]
    graph = helper.make_graph(nodes, "probe", infos[:1], infos[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString(deterministic=True))


def _onnx_weights(kernel: Any, bias: Any, axis: int, integer: bool) -> tuple[list[Any], list[Any], list[str]]:
    """Initializers, the nodes that dequantize them, and the operator's inputs by name."""
    import numpy as np
    from onnx import helper, numpy_helper

    if not integer:
        found = {"kernel": np.ascontiguousarray(kernel), "bias": bias}
        return [numpy_helper.from_array(values, name) for name, values in found.items()], [], ["input", *found]
    scales = np.full(bias.size, WEIGHT_SCALE, np.float32)
    found = {
        "kernel_q": np.rint(kernel * (SEVEN_BITS - 1)).astype(np.int8),
        "kernel_scale": scales,
        "kernel_zero": np.zeros(bias.size, np.int8),
        "bias_q": np.rint(bias * 1000).astype(np.int32),
        "bias_scale": scales * np.float32(INPUT_SCALE),
        "bias_zero": np.zeros(bias.size, np.int32),
        "input_scale": np.float32(INPUT_SCALE),
        "output_scale": np.float32(OUTPUT_SCALE),
        "zero": np.int8(0),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "input_scale", "zero"], ["input_q"]),
        helper.make_node("DequantizeLinear", ["input_q", "input_scale", "zero"], ["input_d"]),
        helper.make_node("DequantizeLinear", ["kernel_q", "kernel_scale", "kernel_zero"], ["kernel"], axis=axis),
        helper.make_node("DequantizeLinear", ["bias_q", "bias_scale", "bias_zero"], ["bias"], axis=0),
    ]
    constants = [numpy_helper.from_array(np.asarray(values), name) for name, values in found.items()]
    return constants, nodes, ["input_d", "kernel", "bias"]
