"""The ONNX export of a model that another format is made of.

It is an action of its own, the same as the recipe's where it asks for ONNX too, so nothing is converted twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stages.formats.conversion import Context
from stages.formats.onnx.facts import ONNXFacts


def onnx_export(context: Context) -> tuple[ONNXFacts, Mapping[str, Path]]:
    """The facts and the files, by name, of the same model's ONNX export; the first file is the graph."""
    axis = f"onnx/{str(context.axis).partition('/')[2]}"
    record = context.call("export", context.config.for_format("onnx"), context.inputs, axis)
    artifact = record.outputs[0]
    assert isinstance(artifact.facts, ONNXFacts)
    return artifact.facts, {name: context.read_made(artifact, name) for name in artifact.names}
