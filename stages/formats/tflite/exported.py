"""The TFLite export of a model that another format is made of.

It is an action of its own, the same as the recipe's where it asks for TFLite too, so nothing is converted twice.
"""

from __future__ import annotations

from pipeline.contracts.stage import StageContext
from pipeline.records.artifacts import TFLiteFacts
from stages.export.config import ExportConfig


def tflite_export(context: StageContext[ExportConfig]) -> tuple[TFLiteFacts, bytes, dict[str, float]]:
    """The facts, bytes and metrics of the same model's TFLite export."""
    config = context.config.model_copy(update={"formats": ("tflite",)}).by_element()["tflite"].model_dump()
    axis = f"tflite/{str(context.axis).partition('/')[2]}"
    record = context.call("export", config, context.inputs, axis)
    artifact = record.outputs[0]
    assert isinstance(artifact.facts, TFLiteFacts)
    return artifact.facts, context.read_made(artifact, artifact.files[0].name).read_bytes(), dict(record.metrics)
