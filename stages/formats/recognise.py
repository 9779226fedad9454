"""Whether a file is TFLite or ONNX, by its content: cheap, without a runtime, and a file cut short is noticed."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Literal

from pipeline.errors import ModelError, RecipeError
from pipeline.records.artifacts import Kind
from stages.formats.onnx.protobuf_fields import fields

ModelKind = Literal["tflite-model", "onnx-model"]
FORMAT_OF: dict[Kind, str] = {"tflite-model": "tflite", "onnx-model": "onnx"}
GRAPH, LARGEST_FIELD = 7, 25  # of onnx.ModelProto: what a model can't be without, and beyond what it has
TFLITE_MARK = slice(4, 8)


def model_kind(path: Path) -> ModelKind:
    """The kind of a model file; RecipeError where it is none, ModelError where it is damaged."""
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:
                raise ModelError("the file is empty", where=str(path))
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                if data[TFLITE_MARK] == b"TFL3":
                    return "tflite-model"
                numbers = _numbers(data)
    except OSError as error:
        raise RecipeError(f"the file can't be read: {error.strerror or error}", where=str(path)) from error
    if numbers is None or not max(numbers) <= LARGEST_FIELD:
        hint = "`secateur run` exports Keras models; here the exported files are compared"
        raise RecipeError("the file is neither TFLite nor ONNX, or it is damaged", where=str(path), hint=hint)
    if GRAPH not in numbers:
        raise ModelError("the ONNX file holds no graph: it is damaged", where=str(path))
    return "onnx-model"


def _numbers(data: mmap.mmap) -> set[int] | None:
    """The numbers of the outermost fields of a protobuf message; None where the bytes are none, or cut off."""
    try:
        return {field.number for field in fields(data, 0, len(data))}
    except ValueError:
        return None
