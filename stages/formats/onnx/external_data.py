"""Handle ONNX models of several files: a graph, and next to it the data of its large tensors.

One protobuf message holds at most 2 GB; larger models keep their weights outside (ONNX external data). Runtimes look
for them under the name that the graph gives, in the graph's own folder. A name that leads out of the folder is never
accepted.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.errors import ModelError
from stages.formats.onnx.protobuf_fields import BYTES, fields

DATA_FILE = "model.onnx.data"
HINT = "copy all files of the model into one folder; `secateur export` does so"
# Field numbers of an ONNX model that can contain tensors, and the message types in them.
INSIDE: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
EXTERNAL_DATA, KEY, VALUE = 13, 1, 2  # of a tensor, and of an entry in its external data


def data_files(model: Path) -> tuple[Path, ...]:
    """Return the files next to an ONNX file that hold data of its tensors, sorted by name; none for most.

    ModelError if one is missing or too short, or does not lie in the model's folder.
    """
    sizes: dict[str, int] = {}
    for entry in _places(model):
        location, offset, length = (entry.get(key, "") for key in ("location", "offset", "length"))
        if not all(text.isdecimal() for text in (offset, length) if text):
            what = f"the data of a tensor has no place: from byte {offset!r}, {length!r} bytes"
            raise ModelError(what, where=str(model), hint="the file is damaged: copy or export it again")
        # The length is optional in the standard: an entry without one reaches to the end, and only its beginning is
        # checked.
        sizes[location] = max(int(offset or 0) + int(length or 0), sizes.get(location, 0))
    return tuple(_checked(model, location, sizes[location]) for location in sorted(sizes))


def _checked(model: Path, location: str, size: int) -> Path:
    """Return the path of a data file; a location may only be a name in the model's own folder."""
    path = model.parent / location
    # Backslash and colon too: a file that was checked here may be copied to Windows. onnx itself once read any path
    # (https://github.com/onnx/onnx/issues/3991).
    if location in ("", ".", "..") or set(location) & {"/", "\\", "\0", ":"}:
        what = f"the graph takes data from {location!r}, which is not a file in its own folder"
        raise ModelError(what, where=str(model), hint="a model's data file must be next to it: export it again")
    if not path.is_file():
        raise ModelError(f"the model's data, {location}, is missing", where=str(model), hint=HINT)
    # ONNX Runtime refuses links out of the folder since 1.24 as well
    # (https://github.com/microsoft/onnxruntime/pull/26776).
    if path.resolve().parent != model.resolve().parent:
        what = f"the model's data, {location}, is a link out of the model's folder"
        raise ModelError(what, where=str(model), hint=HINT)
    if path.stat().st_size < size:
        what = f"the model's data, {location}, has {path.stat().st_size} bytes, and the graph reads {size}"
        raise ModelError(what, where=str(model), hint="it is damaged, or of another model: copy or export it again")
    return path


def _places(model: Path) -> list[dict[str, str]]:
    """Return where each external tensor's data is: `location`, and usually `offset` and `length`."""
    if not model.stat().st_size:  # not a model, as its runtime will report; an empty file can't be mapped
        return []
    # Mapped, so that a graph with gigabytes of weights inside is not read to find that it names no other file.
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return list(_entries(data, "model", 0, len(data)))
        except ValueError as error:
            what = f"the ONNX file is damaged: {error}"
            raise ModelError(what, where=str(model), hint="copy or export it again") from error


def _entries(data: mmap.mmap, kind: str, begin: int, end: int) -> Iterator[dict[str, str]]:
    if kind == "tensor":
        entries = [field for field in fields(data, begin, end) if field.number == EXTERNAL_DATA]
        if entries:
            yield dict(_entry(data, entry.begin, entry.end) for entry in entries)
        return
    inside = INSIDE[kind]
    for field in fields(data, begin, end):
        if field.kind == BYTES and field.number in inside:
            yield from _entries(data, inside[field.number], field.begin, field.end)


def _entry(data: mmap.mmap, begin: int, end: int) -> tuple[str, str]:
    texts = {field.number: data[field.begin : field.end].decode() for field in fields(data, begin, end)}
    return texts.get(KEY, ""), texts.get(VALUE, "")
