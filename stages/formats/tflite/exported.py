"""Get the TFLite export of a model, from which another format is made.

It is a separate action, shared with the recipe's own if it asks for TFLite too, so nothing is converted twice.
"""

from __future__ import annotations

from stages.formats.conversion import Context
from stages.formats.tflite.facts import TFLiteFacts


def tflite_export(context: Context) -> tuple[TFLiteFacts, bytes, dict[str, float]]:
    """Return the facts, bytes and metrics of the same model's TFLite export."""
    axis = f"tflite/{str(context.axis).partition('/')[2]}"
    record = context.call("export", context.config.for_format("tflite"), context.inputs, axis)
    artifact = record.outputs[0]
    assert isinstance(artifact.facts, TFLiteFacts)
    return artifact.facts, context.read_made(artifact, artifact.files[0].name).read_bytes(), dict(record.metrics)
