"""The tensors inside an OpenVINO model as OpenVINO computes them, each made an output, and what the file says of them.

Low-precision transformations are off for that. With an output after each operator OpenVINO 2026.4.1 computes another
thing in 8 bits with them: values behind a fused FakeQuantize become 0, and outputs are off by hundreds of steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.formats.format import FileTensor
from stages.formats.onnx.session import as_layout
from stages.formats.openvino.ir import graph_of, operators_of
from stages.formats.openvino.session import compiled_for_samples, import_openvino, layout_of, path_of

AS_WRITTEN = {"LP_TRANSFORMS_MODE": "NO"}
OUTPUT_LOW, OUTPUT_HIGH = 3, 4  # of FakeQuantize's inputs


def openvino_tensors(file: bytes | Path, arrays: Mapping[str, Any]) -> Iterator[FileTensor]:
    openvino, path = import_openvino(), path_of(file)
    read = openvino.Core().read_model(str(path))
    nodes = {node.get_friendly_name(): node for node in read.get_ordered_ops()}
    outputs, told = [], []
    for place, layer in enumerate(operators_of(graph_of(path))):
        node = nodes[str(layer.get("name"))]
        for output in node.outputs():
            if output.get_element_type().is_real():
                outputs.append(output)
                told.append((place, min(output.get_names(), default=node.get_friendly_name()), _ends(node)))
    model = openvino.Model(outputs, read.get_parameters(), "shown")
    compiled, layout = compiled_for_samples(model, 1, AS_WRITTEN), layout_of(path)
    found = compiled({name: as_layout(values, layout) for name, values in arrays.items()})
    for index, (place, name, ends) in enumerate(told):
        yield FileTensor(name, found[index], place, ends)


def _ends(node: Any) -> tuple[float, float] | None:
    """Of what FakeQuantize gives with one range for all of a tensor."""
    if node.get_type_name() != "FakeQuantize":
        return None
    ends = [node.input_value(place).get_node() for place in (OUTPUT_LOW, OUTPUT_HIGH)]
    if any(end.get_type_name() != "Constant" or end.data.size != 1 for end in ends):
        return None
    low, high = (float(end.data.item()) for end in ends)
    return low, high
