"""Cut a TFLite file after each of its operators: an operator's cost is the difference between two cuts.

LiteRT's Python wheel has no profiler, and an instruction counter does not know operators. A cut keeps the first
operators and outputs all tensors that later ones would read, so that nothing before the cut is dead code that may be
left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from stages.formats.cut import Cut
from stages.formats.tflite.blocks import scales_of_blocks
from stages.formats.tflite.unpacked import unpacked

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import BufferT, ModelT, OperatorT, SubGraphT


def cuts(data: bytes, source: str) -> Iterator[Cut]:
    """Yield a cut after each operator, in execution order; ModelError for damaged files and control flow."""
    from ai_edge_litert import schema_py_generated as schema

    model = unpacked(data, source)
    graph = model.subgraphs[0]
    kinds = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    operators, outputs, buffers = list(graph.operators), list(graph.outputs), list(model.buffers)
    model.signatureDefs = None  # it names outputs that a cut lacks
    for index, operator in enumerate(operators):
        graph.operators = operators[: index + 1]
        graph.outputs = _live(operators, index, outputs)
        model.buffers = _needed(schema, graph, buffers)
        code = model.operatorCodes[operator.opcodeIndex]
        # Codes up to 126 stand in the old one-byte field as well; the new field is 0 in files of old converters.
        kind = kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]
        yield Cut(kind, graph.tensors[operator.outputs[0]].name.decode(), _packed(model, len(data)))


def _live(operators: list[OperatorT], index: int, outputs: list[int]) -> list[int]:
    """Return the tensors made up to `index` that are read later, or are the file's outputs."""
    made = [int(tensor) for operator in operators[: index + 1] for tensor in operator.outputs]
    read = {int(tensor) for operator in operators[index + 1 :] for tensor in operator.inputs}
    # Outputs of the operator itself, also where nothing reads them: the cut has to run it.
    last = {int(tensor) for tensor in operators[index].outputs}
    return [tensor for tensor in dict.fromkeys(made) if tensor in read or tensor in outputs or tensor in last]


def _needed(schema: ModuleType, graph: SubGraphT, buffers: list[BufferT]) -> list[BufferT]:
    """Return the buffers, emptied if no remaining operator reads them: a cut of a large file is smaller."""
    read = {int(tensor) for operator in graph.operators for tensor in operator.inputs if tensor >= 0}
    # Kernels name their blocks' scales, which no operator does.
    read |= {scales for tensor in read if (scales := scales_of_blocks(graph.tensors[tensor])) is not None}
    kept = {graph.tensors[tensor].buffer for tensor in read}
    return [buffer if index in kept else schema.BufferT() for index, buffer in enumerate(buffers)]


def _packed(model: ModelT, size: int) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(size)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
