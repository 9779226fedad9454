"""Show the tensors inside an OpenVINO model as OpenVINO computes them, by making each an output.

The model is compiled for the shapes that come: with free shapes and outputs in front of activations, OpenVINO 2026.4.1
computes something else in 8 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stages.formats.format import Arrays, FileTensor
from stages.formats.onnx.session import as_layout
from stages.formats.openvino.ir import graph_of, operators_of
from stages.formats.openvino.session import compiled_at, import_openvino, layout_of, path_of

if TYPE_CHECKING:
    from openvino import Node as OvNode

OUTPUT_LOW, OUTPUT_HIGH = 3, 4  # of FakeQuantize's inputs


def openvino_tensors(file: bytes | Path, arrays: Arrays) -> Iterator[FileTensor]:
    openvino, path = import_openvino(), path_of(file)
    read = openvino.Core().read_model(str(path))
    nodes = {node.get_friendly_name(): node for node in read.get_ordered_ops()}
    outputs, entries = [], []
    for operator, layer in enumerate(operators_of(graph_of(path))):
        node = nodes[str(layer.get("name"))]
        for output in node.outputs():
            if output.get_element_type().is_real():
                outputs.append(output)
                # A tensor can have several names, without an order: the least is the same in every process.
                entries.append((operator, min(output.get_names(), default=node.get_friendly_name()), _ends(node)))
    model = openvino.Model(outputs, read.get_parameters(), "shown")
    layout = layout_of(path)
    feeds = {port.any_name: as_layout(arrays[port.any_name], layout) for port in model.inputs}
    results = compiled_at(model, tuple(tuple(array.shape) for array in feeds.values()), 1)(feeds)
    for index, (operator, name, ends) in enumerate(entries):
        yield FileTensor(name, results[index], operator, ends)


def _ends(node: OvNode) -> tuple[float, float] | None:
    """Return the ends of the range of a FakeQuantize that has one range for the whole tensor."""
    if node.get_type_name() != "FakeQuantize":
        return None
    ends = [node.input_value(port).get_node() for port in (OUTPUT_LOW, OUTPUT_HIGH)]
    if any(end.get_type_name() != "Constant" or end.data.size != 1 for end in ends):
        return None
    low, high = (float(end.data.item()) for end in ends)
    return low, high
