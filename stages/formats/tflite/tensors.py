"""Compute the tensors inside a TFLite file with LiteRT without delegates, and read the file's facts about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from stages.formats.format import Arrays, FileTensor
from stages.formats.session import content_of, dequantized, quantized
from stages.formats.tensors import MATRIX, ends_of, reads_of
from stages.formats.tflite.blocks import with_blocks_in_float
from stages.formats.tflite.few_channels import GATHER_KERNEL
from stages.formats.tflite.session import SIGNATURE

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_litert.schema_py_generated import Tensor
    from numpy.typing import NDArray


def keeping_tensors(data: bytes) -> Interpreter:
    """Return an interpreter of a file in which every tensor holds its values after a run."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=data,
        experimental_preserve_all_tensors=True,
        # XNNPACK replaces whole subgraphs, and leaves the tensors inside of them unwritten even if they are preserved.
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    return interpreter


def tflite_tensors(file: bytes | Path, arrays: Arrays) -> Iterator[FileTensor]:
    from ai_edge_litert import schema_py_generated as schema

    data = with_blocks_in_float(content_of(file))
    interpreter = keeping_tensors(data)
    runner = interpreter.get_signature_runner(SIGNATURE)
    runner(**{name: quantized(arrays[name], detail) for name, detail in runner.get_input_details().items()})
    model = schema.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(model.SignatureDefs(0).SubgraphIndex())
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    for position in range(graph.OperatorsLength()):
        operator = graph.Operators(position)
        for index in operator.OutputsAsNumpy() if operator.OutputsLength() else ():
            detail = details.get(int(index))
            # Tensors of other types are shapes and indices.
            if detail is not None and (detail["dtype"].__name__ == "float32" or detail["quantization"][0]):
                values = dequantized(interpreter.get_tensor(int(index)), detail)
                scale, zero_point = detail["quantization"]
                ends = ends_of(scale, zero_point, detail["dtype"])
                # Fused operators list all their names.
                yield FileTensor(detail["name"].partition(";")[0], values, position, ends)


def tflite_reads(file: bytes | Path) -> list[frozenset[int]]:
    """Return for each operator of a file the places of those whose outputs it reads."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content_of(file), 0)
    graph = model.Subgraphs(model.SignatureDefs(0).SubgraphIndex())
    operators = [graph.Operators(index) for index in range(graph.OperatorsLength())]
    return reads_of([(_numbers(o.InputsAsNumpy()), _numbers(o.OutputsAsNumpy())) for o in operators])


def count_operators(data: bytes) -> dict[str, int]:
    """Count the operators of a TFLite file over all its subgraphs, as `CONV_2D: 11`."""
    return dict(sorted(Counter(kind for graph in operator_kinds(data) for kind in graph).items()))


def operator_kinds(data: bytes) -> list[list[str]]:
    """Return the operator kinds of each subgraph of a TFLite file, in order, as `CONV_2D`."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    # Codes below 127 are in the old field, the others in the new one: the larger one applies.
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    kinds = [names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes]
    graphs = [model.Subgraphs(index) for index in range(model.SubgraphsLength())]
    return [[kinds[graph.Operators(i).OpcodeIndex()] for i in range(graph.OperatorsLength())] for graph in graphs]


def _numbers(array: NDArray[Any] | int) -> list[int]:
    """Return a flatbuffer's vector, which is 0 if absent, as a list."""
    return [] if isinstance(array, int) else [int(number) for number in array]


def input_ends(file: bytes) -> dict[str, tuple[float, float]]:
    """Return the smallest and the largest number of each quantized input of a TFLite file, by name."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(file, 0)
    if not model.SignatureDefsLength():
        return {}
    signature = model.SignatureDefs(0)
    graph, ends_by_name = model.Subgraphs(signature.SubgraphIndex()), {}
    for index in range(signature.InputsLength()):
        entry = signature.Inputs(index)
        ends = _stored_ends(schema, graph.Tensors(entry.TensorIndex()))
        if ends is not None:
            ends_by_name[entry.Name().decode()] = ends
    return ends_by_name


def _stored_ends(schema: ModuleType, tensor: Tensor) -> tuple[float, float] | None:
    types = {schema.TensorType.INT8: "int8", schema.TensorType.UINT8: "uint8", schema.TensorType.INT16: "int16"}
    quantization = tensor.Quantization()
    if tensor.Type() not in types or quantization is None or quantization.ScaleLength() != 1:
        return None
    return ends_of(quantization.Scale(0), int(quantization.ZeroPoint(0)), types[tensor.Type()])


def tflite_constants(data: bytes) -> Iterator[tuple[str, NDArray[Any]]]:
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    for number, kinds in enumerate(operator_kinds(data)):
        graph = model.Subgraphs(number)
        operators = [(kind, graph.Operators(index)) for index, kind in enumerate(kinds)]
        # A DEQUANTIZE stands between weights of 8 bits and an operator that computes in float32.
        stored = {operator.Outputs(0): operator.Inputs(0) for kind, operator in operators if kind == "DEQUANTIZE"}
        read = [operator.Inputs(1) for kind, operator in operators if kind == "DEPTHWISE_CONV_2D"]
        depthwise = {stored.get(kernel, kernel) for kernel in read}
        for index in range(graph.TensorsLength()):
            tensor = graph.Tensors(index)
            buffer = model.Buffers(tensor.Buffer())
            if tensor.Type() != schema.TensorType.INT8 or not buffer.DataLength() or tensor.ShapeLength() < MATRIX:
                continue
            name = tensor.Name().decode(errors="replace")
            if name == GATHER_KERNEL:
                continue
            quantization, shape = tensor.Quantization(), tensor.ShapeAsNumpy()
            values = buffer.DataAsNumpy().view(np.int8).reshape(shape)
            # A depthwise kernel (1, height, width, channels) has its channels last, also with one scale for all of
            # them, when the file's own axis is 0. A convolution of one filter has the same shape, and its channels
            # come first.
            axis = 3 if index in depthwise else quantization.QuantizedDimension()
            yield name, np.moveaxis(values, axis, 0)
