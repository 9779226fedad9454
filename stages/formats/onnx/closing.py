"""Compute a graph's outputs before a closing softmax or sigmoid, which would hide how much two graphs differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import DeviceError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, NodeProto

CLOSING = ("Softmax", "Sigmoid")


def closing_nodes(graph: GraphProto) -> dict[str, NodeProto]:
    """Return the softmax or sigmoid nodes that give an output of the graph, by its name."""
    outputs = {value.name for value in graph.output}
    return {node.output[0]: node for node in graph.node if node.op_type in CLOSING and node.output[0] in outputs}


def outputs_before_closing(model: Path, batches: Iterable[Mapping[str, Any]]) -> list[NDArray[Any]]:
    """Return float arrays (N, …) over all `batches`, one for each output in the graph's order.

    Data of a large model lies in the folder of `model`. DeviceError if ONNX Runtime refuses the file.
    """
    import numpy as np
    import onnx
    import onnxruntime

    shown = onnx.load(model, load_external_data=False)
    closing = closing_nodes(shown.graph)
    names = [closing[value.name].input[0] if value.name in closing else value.name for value in shown.graph.output]
    known = {value.name for value in shown.graph.output}
    new = [name for name in dict.fromkeys(names) if name not in known]
    float32 = onnx.TensorProto.FLOAT
    shown.graph.output.extend([onnx.helper.make_tensor_value_info(name, float32, None) for name in new])
    path = model.with_name(f"shown-{model.name}")
    onnx.save(shown, path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        parts = [session.run(names, dict(batch)) for batch in batches]
    except Exception as error:  # its errors have no common base but Exception
        raise DeviceError(f"ONNX Runtime can't run the file: {error}") from error
    return [np.concatenate(part) for part in zip(*parts, strict=True)]
