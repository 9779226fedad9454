"""Export: Keras models as TFLite and ONNX files, equal bytes for equal models.

Names load when they are first used: plans and cached runs ask this package for settings only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.export.canonical import canonicalise, serialise
    from stages.export.config import ExportConfig
    from stages.export.onnx_export import convert_onnx
    from stages.export.stage import ExportStage
    from stages.export.tflite import convert_tflite

MODULE_OF = {
    "ExportConfig": "config",
    "ExportStage": "stage",
    "canonicalise": "canonical",
    "convert_onnx": "onnx_export",
    "convert_tflite": "tflite",
    "serialise": "canonical",
}

__all__ = ["ExportConfig", "ExportStage", "canonicalise", "convert_onnx", "convert_tflite", "serialise"]


def __getattr__(name: str) -> Any:
    if name not in MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{MODULE_OF[name]}"), name)
