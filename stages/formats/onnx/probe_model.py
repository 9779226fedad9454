"""Write the ONNX file of a probe: one Conv or Gemm and a Relu. int8 is QDQ per channel, as in the export stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stages.formats.probe import Probe, ProbeScheme
from stages.formats.probe_models import INPUT_SCALE, OUTPUT_SCALE, WEIGHT_SCALE, probe_shapes, probe_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto, TensorProto

SEVEN_BITS = 64  # export's weights use 7 of 8 bits


def onnx_model(probe: Probe, scheme: ProbeScheme) -> bytes:
    """Return the ONNX file of a probe, with float32 inputs and outputs (operator set 17)."""
    from onnx import TensorProto, helper

    kernel, bias = probe_weights(probe)
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
    ends = [shape if dense else (shape[0], shape[3], *shape[1:3]) for shape in probe_shapes(probe)]
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(("input", "output"), ends, strict=True)
    ]
    graph = helper.make_graph(nodes, "probe", infos[:1], infos[1:], constants)
    # With the IR version of set 17: onnx writes its newest one by default, which the runtime of a board may refuse.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString(deterministic=True))


def _onnx_weights(
    kernel: NDArray[Any], bias: NDArray[Any], axis: int, integer: bool
) -> tuple[list[TensorProto], list[NodeProto], list[str]]:
    """Return initializers, the nodes that dequantize them, and the operator's inputs by name."""
    import numpy as np
    from onnx import helper, numpy_helper

    if not integer:
        arrays: dict[str, Any] = {"kernel": np.ascontiguousarray(kernel), "bias": bias}
        return [numpy_helper.from_array(values, name) for name, values in arrays.items()], [], ["input", *arrays]
    scales = np.full(bias.size, WEIGHT_SCALE, np.float32)
    arrays = {
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
    constants = [numpy_helper.from_array(np.asarray(values), name) for name, values in arrays.items()]
    return constants, nodes, ["input_d", "kernel", "bias"]
