"""Put operators that an int8 file holds in float32 into 16-bit activations with 8-bit weights.

What was tried on MLPerf Tiny's ResNet-8: TensorFlow 2.21's quantizer computes a whole file in one type. Told to leave
operators out, it gives 16-bit activations a zero point, which LiteRT 2.3 refuses; a second pass over its own int8 file
quantizes nothing that is left. ai-edge-quantizer 0.10 takes the operators that are still float32 in the converter's
file and leaves the others as they are. Its own calibration is a moving average that cuts values off, so ranges are
measured here. One QUANTIZE stands between both types: LiteRT and TFLM have kernels for the pair.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from types import ModuleType
from typing import TYPE_CHECKING

from pipeline.errors import UnsupportedError, first_few
from pipeline.system.quiet import quiet
from stages.formats.format import Arrays
from stages.formats.tflite.four_bits import scope_of
from stages.formats.tflite.lone_relus import drop_unused_codes
from stages.formats.tflite.tensors import operator_kinds
from stages.formats.tflite.true_ranges import measured_ranges
from stages.formats.tflite.unpacked import unpacked

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, SubGraphT

BITS, WEIGHT_BITS = 16, 8
KERNELS, BIAS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}), 2  # the place among their inputs
CONVERSIONS = frozenset({"DEQUANTIZE", "QUANTIZE"})
LARGEST_BIAS, BIAS_STEPS = 2**31 - 1, 2**20  # steps that can be stored, and those of a bias that has more


def with_sixteen_bits(data: bytes, operators: Sequence[str], arrays: Arrays) -> bytes:
    """Return an int8 TFLite file with its float32 `operators`, by the names of their outputs, in 16×8 bits.

    `arrays` are calibration samples by input name. UnsupportedError names operators that have no such form.
    """
    import numpy as np

    with quiet():
        from ai_edge_quantizer import Quantizer, qtyping

    found = _places(data, set(operators))
    if not found:
        return data
    quantizer = Quantizer(bytearray(data))
    for name in found:
        quantizer.add_static_config(scope_of(name), qtyping.TFLOperationName.ALL_SUPPORTED, BITS, WEIGHT_BITS)
    for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):  # the file's own keep their types
        quantizer.update_quantization_recipe(".*", end, algorithm_key="no_quantize")
    ranges = {
        name: {"min": np.full((1,) * rank, low, np.float32), "max": np.full((1,) * rank, high, np.float32)}
        for name, rank, (low, high) in _ranges(data, set(found.values()), arrays)
    }
    # It prints what it saved, and divides by the scale of channels of zeros.
    with redirect_stdout(io.StringIO()), np.errstate(divide="ignore", invalid="ignore"):
        model = unpacked(bytes(quantizer.quantize(ranges).quantized_model), "ai-edge-quantizer")
    return _finished(model, unpacked(data, "the converter"), set(found))


def _places(data: bytes, operators: set[str]) -> dict[str, int]:
    """Return the places of float32 operators by the names of their outputs in the file.

    Where the file's output is an integer, its name is that of a QUANTIZE behind the operator.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph, kinds = schema.Model.GetRootAs(data, 0).Subgraphs(0), operator_kinds(data)[0]
    makers, places = dict[int, int](), dict[str, int]()
    for place, kind in enumerate(kinds):
        operator = graph.Operators(place)
        makers.update(dict.fromkeys(map(int, operator.OutputsAsNumpy()), place))
        named = graph.Tensors(operator.Outputs(0)).Name().decode() in operators
        found = makers.get(operator.Inputs(0), place) if named and kind == "QUANTIZE" else place
        output = graph.Tensors(graph.Operators(found).Outputs(0))
        if named and kinds[found] not in CONVERSIONS and output.Type() == schema.TensorType.FLOAT32:
            places[output.Name().decode()] = found
    return places


def _ranges(data: bytes, places: set[int], arrays: Arrays) -> Iterator[tuple[str, int, tuple[float, float]]]:
    """Yield name, rank and range of each float32 tensor that operators compute, or read and is no constant."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    tensors = set[int]()
    for operator in map(graph.Operators, places):
        tensors.update(map(int, (*operator.InputsAsNumpy(), *operator.OutputsAsNumpy())))
    activations = [
        index
        for index in sorted(tensors - {-1})
        if graph.Tensors(index).Type() == schema.TensorType.FLOAT32
        and not model.Buffers(graph.Tensors(index).Buffer()).DataLength()
    ]
    for index, limits in measured_ranges(data, activations, arrays).items():
        yield graph.Tensors(index).Name().decode(), graph.Tensors(index).ShapeLength(), limits


def _finished(model: ModelT, before: ModelT, operators: set[str]) -> bytes:
    """Return the file with what ai-edge-quantizer leaves to do; `before` is the model that it was given."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools.flatbuffer_utils import convert_object_to_bytearray

    (graph,), kinds = model.subgraphs, _kinds(schema, model)
    left = [
        f"{kind} ({graph.tensors[operator.outputs[0]].name.decode().partition(';')[0]})"
        for kind, operator in zip(kinds, graph.operators, strict=True)
        if kind not in CONVERSIONS
        and graph.tensors[operator.outputs[0]].name.decode() in operators
        and graph.tensors[operator.outputs[0]].type == schema.TensorType.FLOAT32
    ]
    if left:
        raise UnsupportedError(
            f"{first_few(left)} can't be made with 16-bit activations",
            where="quantize.keep_int16",
            hint="name these layers in keep_float instead, or leave them in 8 bits",
        )
    _repair_biases(schema, model, before, kinds)
    _merge_conversions(schema, graph, kinds)
    drop_unused_codes(model)
    return bytes(convert_object_to_bytearray(model))


def _kinds(schema: ModuleType, model: ModelT) -> list[str]:
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    codes = [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]
    return [codes[operator.opcodeIndex] for operator in model.subgraphs[0].operators]


def _repair_biases(schema: ModuleType, model: ModelT, before: ModelT, kinds: Sequence[str]) -> None:
    """Give channels of tiny weights a step in which their bias can be stored.

    ai-edge-quantizer cuts a bias off at 32 bits of input step times weight step; behind a filter of zeros nothing of it
    would be left.
    """
    import numpy as np

    (graph,) = model.subgraphs
    floats = {tensor.name: before.buffers[tensor.buffer].data for tensor in before.subgraphs[0].tensors}
    for kind, operator in zip(kinds, graph.operators, strict=True):
        if kind not in KERNELS or len(operator.inputs) <= BIAS or operator.inputs[BIAS] < 0:
            continue
        image, kernel, bias = (graph.tensors[index] for index in operator.inputs)
        if image.type != schema.TensorType.INT16:
            continue
        wanted = np.frombuffer(floats[bias.name], np.float32).astype(np.float64)
        step = float(image.quantization.scale[0])
        old = np.array(kernel.quantization.scale, np.float64)
        new = np.where(np.abs(wanted) > LARGEST_BIAS * step * old, np.abs(wanted) / (step * BIAS_STEPS), old)
        if np.array_equal(new, old):
            continue
        shape = [1] * len(kernel.shape)
        shape[kernel.quantization.quantizedDimension] = -1
        codes = np.frombuffer(model.buffers[kernel.buffer].data, np.int8).reshape(kernel.shape)
        codes = np.rint(codes * (old / new).reshape(shape)).astype(np.int8)
        model.buffers[kernel.buffer].data = np.frombuffer(codes.tobytes(), np.uint8)
        kernel.quantization.scale = new.astype(np.float32)
        bias.quantization.scale = (step * new).astype(np.float32)
        model.buffers[bias.buffer].data = np.frombuffer(np.rint(wanted / (step * new)).astype(np.int64), np.uint8)


def _merge_conversions(schema: ModuleType, graph: SubGraphT, kinds: Sequence[str]) -> None:
    """Let QUANTIZE read the integers behind a DEQUANTIZE, and remove what nothing reads any more."""
    sources = {
        int(operator.outputs[0]): int(operator.inputs[0])
        for kind, operator in zip(kinds, graph.operators, strict=True)
        if kind == "DEQUANTIZE"
        and graph.tensors[operator.inputs[0]].type in (schema.TensorType.INT8, schema.TensorType.INT16)
    }
    for kind, operator in zip(kinds, graph.operators, strict=True):
        if kind == "QUANTIZE" and int(operator.inputs[0]) in sources:
            operator.inputs = [sources[int(operator.inputs[0])]]
    read = {int(index) for operator in graph.operators for index in operator.inputs} | set(map(int, graph.outputs))
    graph.operators = [
        operator
        for kind, operator in zip(kinds, graph.operators, strict=True)
        if kind != "DEQUANTIZE" or int(operator.outputs[0]) in read
    ]
