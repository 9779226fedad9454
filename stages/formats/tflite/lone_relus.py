"""Replace int8 RELUs that no operator has fused by operators that LiteRT computes many times faster.

A RELU stands alone where another operator reads its input too, as a shortcut reads the sum behind an ADD. XNNPACK has
no int8 RELU that changes the scale, and LiteRT 2.3's own takes 15 to 17 instructions per value on a Cortex-A72. In the
demo's network, in thousands of instructions there, with the noise of the outputs on 2,000 images relative to the RELU:

| instead of RELU | two operators | noise |
|---|---|---|
| RELU (float32: 4.5) | 162.8 | 1.00 |
| RELU with one scale for the sum and itself | 162.8 | 0.95 |
| QUANTIZE, whose saturation does what the RELU does | 3.4 | 1.02 |
| the ADD once more, with the ReLU fused | 10.8 | 0.94 |

So behind an ADD the sum is computed once more: one rounding less, for 0.6 % of the network's instructions. Behind
others QUANTIZE computes the RELU's bits in LiteRT's own kernels, and is at most one step off in XNNPACK.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT, SubGraphT, TensorT

LARGEST = {"RELU": float("inf"), "RELU6": 6.0}  # what each operator lets through
LOWEST, HIGHEST = -128, 127


def without_lone_relus(data: bytes) -> bytes:
    """Return a TFLite file without int8 RELU and RELU6 operators; `data` itself if it has none to replace.

    A RELU stays where its output's scale could hold what it cuts off.
    """
    from ai_edge_litert import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    kinds = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    names = [kinds[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]
    found = [
        (graph, place, names[operator.opcodeIndex])
        for graph in model.subgraphs
        for place, operator in enumerate(graph.operators)
        if _saturates(schema, graph, operator, LARGEST.get(names[operator.opcodeIndex]))
    ]
    for graph, place, kind in found:
        adds = _plain_adds(schema, graph, names)
        relu = graph.operators[place]
        maker = adds.get(int(relu.inputs[0]))
        if maker is not None:
            graph.operators[place] = _once_more(schema, maker, relu, kind)
        else:
            relu.opcodeIndex = _place_of_quantize(schema, model, names)
            relu.builtinOptionsType = schema.BuiltinOptions.QuantizeOptions
            relu.builtinOptions = schema.QuantizeOptionsT()
    if not found:
        return data
    drop_unused_codes(model)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _saturates(schema: ModuleType, graph: SubGraphT, operator: OperatorT, largest: float | None) -> bool:
    """Return whether all that an int8 RELU cuts off lies outside of what its output can hold."""
    if largest is None:
        return False
    tensors: tuple[TensorT, TensorT] = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
    if any(tensor.type != schema.TensorType.INT8 for tensor in tensors):
        return False
    quantization = tensors[1].quantization
    scale, zero_point = float(quantization.scale[0]), int(quantization.zeroPoint[0])
    return zero_point == LOWEST and LOWEST + largest / scale >= HIGHEST - 0.5  # the limit is rounded to a step


def _plain_adds(schema: ModuleType, graph: SubGraphT, names: list[str]) -> Mapping[int, OperatorT]:
    """Return the ADD operators without an activation by the tensor that they make."""
    none = schema.ActivationFunctionType.NONE
    return {
        int(operator.outputs[0]): operator
        for operator in graph.operators
        if names[operator.opcodeIndex] == "ADD" and operator.builtinOptions.fusedActivationFunction == none
    }


def _once_more(schema: ModuleType, add: OperatorT, relu: OperatorT, kind: str) -> Any:
    """Return an ADD of the same tensors with the activation fused, which makes the RELU's output."""
    again = copy.deepcopy(add)
    again.outputs = relu.outputs
    again.builtinOptions.fusedActivationFunction = getattr(schema.ActivationFunctionType, kind)
    return again


def _place_of_quantize(schema: ModuleType, model: ModelT, names: list[str]) -> int:
    """Return the place of QUANTIZE among the operator codes, added if there is none."""
    if "QUANTIZE" not in names:
        code = schema.OperatorCodeT()
        # Both: runtimes before the new field read the old one only. Version 1 is that of 8 bits (op_version.cc).
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.QUANTIZE
        code.version = 1
        model.operatorCodes.append(code)
        names.append("QUANTIZE")
    return names.index("QUANTIZE")


def drop_unused_codes(model: ModelT) -> None:
    """Remove codes that no operator has: a microcontroller's program would register them for nothing."""
    used = sorted({operator.opcodeIndex for graph in model.subgraphs for operator in graph.operators})
    model.operatorCodes = [model.operatorCodes[place] for place in used]
    for graph in model.subgraphs:
        for operator in graph.operators:
            operator.opcodeIndex = used.index(operator.opcodeIndex)
