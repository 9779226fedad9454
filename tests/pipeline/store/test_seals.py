import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.store.seals import sealed, unsealed

DOCUMENT = b'{\n "a": 1,\n "b": []\n}'


@given(st.dictionaries(st.text(), st.integers() | st.text(), min_size=1), st.sampled_from([None, 0, 1]))
def test_a_sealed_document_comes_back_and_is_json_with_one_more_member(members, indent):
    document = json.dumps(members, indent=indent).encode()
    data = sealed(document)
    assert unsealed(data) == document
    assert json.loads(data) == members | {"seal": json.loads(data)["seal"]}


@pytest.mark.parametrize("document", [DOCUMENT, b'{"a":1,"b":[]}'])
def test_no_bit_can_be_flipped_and_no_byte_be_cut_off(document):
    data = sealed(document)
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert unsealed(bytes(damaged)) is None, bit
    assert all(unsealed(data[:end]) is None for end in range(len(data)))


@pytest.mark.parametrize("data", [b"", DOCUMENT, sealed(DOCUMENT) + b"\n", sealed(DOCUMENT).replace(b'"b"', b'"c"')])
def test_what_is_not_sealed_is_none(data):
    assert unsealed(data) is None
