"""Cut an ONNX file after each of its nodes, as `cuts` does with TFLite files.

ONNX Runtime fuses nodes when it loads a file, so the graph to cut is the one that it made on the device
(`optimized_there`); run without optimization, cuts of that graph use the same kernels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stages.formats.cut import Cut

if TYPE_CHECKING:
    from onnx import NodeProto


def onnx_cuts(data: bytes) -> Iterator[Cut]:
    """Yield a cut after each node, in order; each one outputs what later nodes would read."""
    import onnx

    model = onnx.load_from_string(data)
    nodes, outputs = list(model.graph.node), {value.name for value in model.graph.output}
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    reads = [set(_read_by(node)) for node in nodes]
    for index, node in enumerate(nodes):
        later = outputs.union(*reads[index + 1 :])
        made = [name for earlier in nodes[:index] for name in earlier.output if name in later]
        needed = set().union(*reads[: index + 1])
        graph = onnx.helper.make_graph(
            nodes[: index + 1],
            "cut",
            list(model.graph.input),
            # Without a type: the runtime infers it. Optimized graphs have operators of its own, which onnx's inference
            # does not know.
            [onnx.ValueInfoProto(name=name) for name in (*made, *filter(None, node.output))],
            # Else each of a hundred cuts would carry all weights of the network to the board.
            [tensor for name, tensor in weights.items() if name in needed],
        )
        # With the file's IR version: onnx writes its newest one by default, which the runtime of a board may refuse.
        cut = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
        yield Cut(node.op_type, node.name, cut.SerializeToString())


def _read_by(node: NodeProto) -> Iterator[str]:
    """Yield what a node reads, and what its subgraphs read or define: these names can't collide."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from _read_by(inner)
