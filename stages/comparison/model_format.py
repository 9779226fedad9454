"""Whether a file is TFLite or ONNX, by its content: cheap, without a runtime, and a file cut short is noticed."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Literal

from pipeline.artifacts import Kind
from pipeline.errors import ModelError, RecipeError

ModelKind = Literal["tflite-model", "onnx-model"]
FORMAT_OF: dict[Kind, str] = {"tflite-model": "tflite", "onnx-model": "onnx"}
GRAPH, LARGEST_FIELD = 7, 25  # of onnx.ModelProto: what a model can't be without, and beyond what it has
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # protobuf's wire types
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
                fields = _protobuf_fields(data)
    except OSError as error:
        raise RecipeError(f"the file can't be read: {error.strerror or error}", where=str(path)) from error
    if fields is None or not max(fields) <= LARGEST_FIELD:
        hint = "`secateur run` exports Keras models; here the exported files are compared"
        raise RecipeError("the file is neither TFLite nor ONNX, or it is damaged", where=str(path), hint=hint)
    if GRAPH not in fields:
        raise ModelError("the ONNX file holds no graph: it is damaged", where=str(path))
    return "onnx-model"


def _protobuf_fields(data: mmap.mmap) -> set[int] | None:
    """The numbers of the fields of a protobuf message; None where the bytes are none, or the last field is cut off.

    Only the outermost fields are walked over (protobuf.dev/programming-guides/encoding): large files take no time.
    """
    place, found = 0, set()
    while place < len(data):
        tag, place = _varint(data, place)
        kind = tag & 7
        if kind == VARINT:
            _, place = _varint(data, place)
        elif kind == BYTES:
            length, place = _varint(data, place)
            place += length
        elif kind in (FIXED64, FIXED32):
            place += 8 if kind == FIXED64 else 4
        else:
            return None
        found.add(tag >> 3)
    return found if place == len(data) and 0 not in found else None


def _varint(data: mmap.mmap, place: int) -> tuple[int, int]:
    """A base-128 number and where it ends; beyond the data where it does not end."""
    number, shift = 0, 0
    while place < len(data) and shift < 64:
        byte = data[place]
        place, number, shift = place + 1, number | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return number, place
    return 0, len(data) + 1
