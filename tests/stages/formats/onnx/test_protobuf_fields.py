"""Check that fields are found where protobuf puts them, and that other bytes are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto

from stages.formats.onnx.protobuf_fields import BYTES, FIXED32, VARINT, fields


@given(st.text(), st.integers(-(2**63), 2**63 - 1), st.floats(width=32, allow_nan=False), st.binary())
def test_every_field_is_where_its_content_stands(name: str, number: int, real: float, data: bytes) -> None:
    message = AttributeProto(name=name, i=number, f=real, s=data).SerializeToString()
    found = {field.number: field for field in fields(message, 0, len(message))}
    assert [(found[n].number, found[n].kind) for n in (1, 2, 3, 4)] == [
        (1, BYTES),
        (2, FIXED32),
        (3, VARINT),
        (4, BYTES),
    ]
    assert message[found[1].begin : found[1].end].decode() == name
    assert message[found[4].begin : found[4].end] == data
    assert max(field.end for field in found.values()) == len(message)


@given(st.binary(min_size=1, max_size=40), st.data())
def test_a_message_that_is_cut_within_a_field_is_noticed(content: bytes, data: st.DataObject) -> None:
    message = AttributeProto(s=content).SerializeToString()
    with pytest.raises(ValueError, match=r"cut off|does not end"):
        list(fields(message, 0, data.draw(st.integers(1, len(message) - 1))))


@pytest.mark.parametrize("data", [b"\x00\x01", b"\x0b\x01", b"\x80" * 12])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"no number|wire type|does not end"):
        list(fields(data, 0, len(data)))
