"""An ONNX file cut after each of its nodes, as `cuts` does it with TFLite files.

ONNX Runtime fuses nodes when it loads a file, so what is cut is the graph that it made of one on the device in question
(`optimized_there`); run as they are, cuts of that graph compute by the same kernels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stages.formats.cut import Cut


def onnx_cuts(data: bytes) -> Iterator[Cut]:
    """A cut after each node, in the order in which they stand; each gives as outputs what later ones would read."""
    import onnx

    model = onnx.load_from_string(data)
    nodes, outputs = list(model.graph.node), {value.name for value in model.graph.output}
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    reads = [set(_read_by(node)) for node in nodes]
    for place, node in enumerate(nodes):
        later = outputs.union(*reads[place + 1 :])
        made = [name for earlier in nodes[:place] for name in earlier.output if name in later]
        needed = set().union(*reads[: place + 1])
        graph = onnx.helper.make_graph(
            nodes[: place + 1],
            "cut",
            list(model.graph.input),
            [onnx.ValueInfoProto(name=name) for name in (*made, *filter(None, node.output))],
            [tensor for name, tensor in weights.items() if name in needed],
        )
        cut = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
        yield Cut(node.op_type, node.name, cut.SerializeToString())


def _read_by(node: Any) -> Iterator[str]:
    """What a node reads, and what its subgraphs read around them or make themselves: names that can't meet."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from _read_by(inner)
