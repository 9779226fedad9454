"""Read external tensor data of an ONNX graph without loading it, and write it page-aligned.

Data above 2 GB is never one message: large tensors stay references from ONNX Runtime's folding to the exported data
file, and their bytes are copied from file to file in pieces.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

LEAST_BYTES = 1024  # of an external tensor; onnx' own default
PAGE_BYTES = 4096  # tensors in a file begin at pages, so that they can be mapped, as onnx.proto recommends
PIECE_BYTES = 1 << 24
MESSAGE_BYTES = 64  # maximum framing overhead of a nested message


def is_outside(tensor: TensorProto) -> bool:
    """Return whether a tensor's data is in a file."""
    return bool(tensor.data_location == tensor.EXTERNAL)


def has_data_outside(model: ModelProto) -> bool:
    """Return whether any tensor of the main graph is in a file."""
    return any(is_outside(tensor) for tensor in model.graph.initializer)


def place(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    """Record in a tensor where its data is."""
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.data_location = tensor.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def pieces(tensor: TensorProto, folder: Path) -> Iterator[bytes]:
    """Yield the data of an external tensor in `folder` piece by piece; EOFError if the file is too short."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    left = tensor_bytes(tensor)
    with (folder / entries["location"]).open("rb") as file:
        file.seek(int(entries.get("offset", "0")))
        while left:
            piece = file.read(min(left, PIECE_BYTES))
            if not piece:
                raise EOFError(f"{entries['location']} lacks {left} bytes of the tensor {tensor.name}")
            left -= len(piece)
            yield piece


def reference(tensor: TensorProto) -> TensorProto:
    """Return a nameless copy of an external tensor, which refers to the same data."""
    # With offset and length written out: they may be missing where a tensor fills its file.
    copy = type(tensor)(data_type=tensor.data_type, dims=tensor.dims)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    place(copy, entries["location"], int(entries.get("offset", "0")), tensor_bytes(tensor))
    return copy


def content_digest(tensor: TensorProto, folder: Path) -> str:
    """Return the digest of type, shape and data of an external tensor."""
    digest = hashlib.sha256(f"{tensor.data_type} {list(tensor.dims)}".encode())
    for piece in pieces(tensor, folder):
        digest.update(piece)
    return f"outside {digest.hexdigest()}"


def tensor_bytes(tensor: TensorProto) -> int:
    """Return how many bytes a tensor's numbers take; strings count as none."""
    import onnx

    # They have no raw form, so that they can't be external either.
    if tensor.data_type == onnx.TensorProto.STRING:
        return 0
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return int(math.prod(tensor.dims) * kind.itemsize)


def message_bytes(model: ModelProto) -> int:
    """Return an upper estimate of a model's size as one message, without building that message."""
    graph = model.graph
    small = (*graph.node, *graph.input, *graph.output, *model.metadata_props, *model.opset_import)
    size = sum(int(part.ByteSize()) + MESSAGE_BYTES for part in small)
    return size + sum(tensor_bytes(tensor) + len(tensor.name) + 2 * MESSAGE_BYTES for tensor in graph.initializer)


def move_outside(model: ModelProto, folder: Path, target: Path) -> None:
    """Move the data of the large tensors of the main graph into `target`, in order; the model then refers to it.

    `folder` holds data that is already external.
    """
    with target.open("wb") as file:
        for tensor in model.graph.initializer:
            size = tensor_bytes(tensor)
            if size < LEAST_BYTES and not is_outside(tensor):
                continue
            # Zeros up to the next page, so that the file's bytes depend on nothing but the tensors.
            file.write(bytes(-file.tell() % PAGE_BYTES))
            offset = file.tell()
            for piece in pieces(tensor, folder) if is_outside(tensor) else (tensor.raw_data,):
                file.write(piece)
            place(tensor, target.name, offset, size)
