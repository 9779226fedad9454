"""Walk over the fields of a protobuf message (protobuf.dev/programming-guides/encoding) without decoding them.

The walk reads none of the data in them, so that models of gigabytes take no time and no memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
FIXED = {FIXED64: 8, FIXED32: 4}


class Data(Protocol):
    """Represent bytes, or a mapped file."""

    def __getitem__(self, position: int, /) -> int: ...


class Field(NamedTuple):
    """Hold a field's number and wire type, and where its content begins and ends."""

    number: int
    kind: int
    begin: int
    end: int


def fields(data: Data, begin: int, end: int) -> Iterator[Field]:
    """Yield the outermost fields between two places; ValueError if the bytes are not a message, or are truncated."""
    position = begin
    while position < end:
        tag, position = _varint(data, position, end)
        number, kind = tag >> 3, tag & 7
        if kind == BYTES:
            length, position = _varint(data, position, end)
        elif kind == VARINT:
            length = _varint(data, position, end)[1] - position
        elif kind in FIXED:
            length = FIXED[kind]
        else:  # groups (3 and 4) are deprecated, and ONNX has none
            raise ValueError(f"there is no wire type {kind}")
        if not number or position + length > end:
            raise ValueError("a field has no number, or is cut off")
        yield Field(number, kind, position, position + length)
        position += length


def _varint(data: Data, position: int, end: int) -> tuple[int, int]:
    """Return a base-128 number and where it ends; ValueError if it does not end."""
    number, shift = 0, 0
    while position < end and shift < 64:  # at most ten bytes, or damaged data would make a number of any size
        byte = data[position]
        position, number, shift = position + 1, number | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return number, position
    raise ValueError("a number does not end")
