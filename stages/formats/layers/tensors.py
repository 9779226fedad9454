"""The tensors inside an exported file, as its own runtime computes them, in the order of its operators.

They are made without what runtimes fuse and delegate (XNNPACK, ONNX Runtime's optimizer), which leave no tensor behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DeviceError
from pipeline.records.artifacts import Kind
from pipeline.system.quiet import quiet
from stages.formats.file_ranges import ends_of, onnx_ends
from stages.formats.session import LAYOUT, SIGNATURE, as_layout, content_of, dequantized, quantized


@dataclass(frozen=True, slots=True)
class FileTensor:
    """An operator's output under its name in the file, in real numbers; `operator` is its place in the file.

    `ends` are the least and the greatest number that it can hold, where it is stored in 8 or 16 bits.
    """

    name: str
    values: Any
    operator: int = 0
    ends: tuple[float, float] | None = None


# What gives the tensors of a file: `file_tensors`, or `tensors_apart`, which does so in a child.
Tensors = Callable[[Kind, bytes | Path, Mapping[str, Any]], list[FileTensor]]


def file_tensors(kind: Kind, model: bytes | Path, arrays: Mapping[str, Any]) -> list[FileTensor]:
    """All tensors that operators make of one batch, real-valued ones only; DeviceError if the runtime fails.

    `arrays` go in by name, as many samples as the file takes at once.
    """
    with quiet():
        try:
            return list((_tflite_tensors if kind == "tflite-model" else _onnx_tensors)(model, arrays))
        except Exception as error:  # ONNX Runtime's errors have no common base but Exception
            raise DeviceError(f"the file does not run with its tensors kept: {error}") from error


def _tflite_tensors(file: bytes | Path, arrays: Mapping[str, Any]) -> Iterator[FileTensor]:
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    data = content_of(file)
    interpreter = Interpreter(
        model_content=data,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner(SIGNATURE)
    runner(**{name: quantized(arrays[name], detail) for name, detail in runner.get_input_details().items()})
    model = schema.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(model.SignatureDefs(0).SubgraphIndex())
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    for place in range(graph.OperatorsLength()):
        operator = graph.Operators(place)
        for index in operator.OutputsAsNumpy() if operator.OutputsLength() else ():
            detail = details.get(int(index))
            if detail is not None and (detail["dtype"].__name__ == "float32" or detail["quantization"][0]):
                values = dequantized(interpreter.get_tensor(int(index)), detail)
                # Fused operators list all their names.
                scale, zero_point = detail["quantization"]
                ends = ends_of(scale, zero_point, detail["dtype"])
                yield FileTensor(detail["name"].partition(";")[0], values, place, ends)


def _onnx_tensors(file: bytes | Path, arrays: Mapping[str, Any]) -> Iterator[FileTensor]:
    import numpy as np
    import onnx
    import onnxruntime

    model = onnx_graph(file)
    makers = [(name, place) for place, node in enumerate(model.graph.node) for name in node.output if name]
    names = [name for name, _ in makers]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)  # the runtime infers their types
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    if isinstance(file, Path):
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(file.parent))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    layout = next((entry.value for entry in model.metadata_props if entry.key == LAYOUT), "")
    feeds = {name: as_layout(values, layout) for name, values in arrays.items()}
    ends = onnx_ends(model)
    for (name, place), values in zip(makers, session.run(names, feeds), strict=True):
        if isinstance(values, np.ndarray) and values.dtype.kind == "f":
            yield FileTensor(name, values, place, ends.get(name))


def onnx_graph(file: bytes | Path) -> Any:
    """The ModelProto; data that stands outside stays there."""
    import onnx

    return onnx.load_from_string(file) if isinstance(file, bytes) else onnx.load(file, load_external_data=False)


def operator_reads(kind: Kind, file: bytes | Path) -> list[frozenset[int]]:
    """For each operator of a file the places of those whose outputs it reads."""
    if kind == "tflite-model":
        from ai_edge_litert import schema_py_generated as schema

        model = schema.Model.GetRootAs(content_of(file), 0)
        graph = model.Subgraphs(model.SignatureDefs(0).SubgraphIndex())
        operators = [graph.Operators(place) for place in range(graph.OperatorsLength())]
        ends = [(_numbers(o.InputsAsNumpy()), _numbers(o.OutputsAsNumpy())) for o in operators]
        return _reads(ends)
    nodes = onnx_graph(file).graph.node
    return _reads([(list(node.input), [name for name in node.output if name]) for node in nodes])


def count_operators(data: bytes) -> dict[str, int]:
    """Operators of a TFLite file over all its subgraphs, as `CONV_2D: 11`."""
    return dict(sorted(Counter(kind for graph in operator_kinds(data) for kind in graph).items()))


def operator_kinds(data: bytes) -> list[list[str]]:
    """The kinds of the operators of each subgraph of a TFLite file, in order, as `CONV_2D`."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    # Codes below 127 stand in the old field, the others in the new one: whichever is larger holds.
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    kinds = [names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes]
    graphs = [model.Subgraphs(index) for index in range(model.SubgraphsLength())]
    return [[kinds[graph.Operators(i).OpcodeIndex()] for i in range(graph.OperatorsLength())] for graph in graphs]


def _reads(ends: Sequence[tuple[Sequence[Any], Sequence[Any]]]) -> list[frozenset[int]]:
    maker = {output: place for place, (_, outputs) in enumerate(ends) for output in outputs}
    return [frozenset(maker[name] for name in inputs if name in maker) for inputs, _ in ends]


def _numbers(array: Any) -> list[int]:
    """A flatbuffer's vector, which is 0 where there is none."""
    return [] if isinstance(array, int) else [int(number) for number in array]
