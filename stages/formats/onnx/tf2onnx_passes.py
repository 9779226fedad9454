"""Run tf2onnx's optimizer passes without what makes them slow.

tf2onnx copies the whole graph, including weights, before each of a dozen passes, and writes every weight into a
protobuf message after it: on Xception, three quarters of a conversion. The passes need neither. Run here one after the
other on one copy, until none changes anything, they produce the same graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tf2onnx.graph import Graph as Tf2onnxGraph


class InPlacePasses:
    """Act as one tf2onnx optimizer that runs all passes; `graph_been_opt` stays False: it iterates by itself.

    `finished` tells whether it did: tf2onnx swallows what a pass raises and continues with the unchanged graph.
    """

    graph_been_opt = False

    def __init__(self) -> None:
        self.finished = False

    def optimize(self, graph: Tf2onnxGraph, iteration: int) -> Tf2onnxGraph:
        """Return the optimized graph; tf2onnx passes in a copy, and continues with its original if a pass raises."""
        from tf2onnx import optimizer

        round_number, changed = 0, True
        while changed:
            changed = False
            for factory in optimizer._get_optimizers().values():  # noqa: SLF001 - there is no public list of them
                graph_pass = factory()
                graph_pass.opt_iteration = round_number
                graph = graph_pass._optimize(graph) or graph  # noqa: SLF001 - the public one also rewrites every weight
                graph.delete_unused_nodes(graph.outputs)
                changed = changed or graph_pass.graph_been_opt
            round_number += 1
        graph.update_proto()
        self.finished = True
        return graph
