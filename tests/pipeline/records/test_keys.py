import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records.keys import digest_of, digest_of_bytes, digest_of_file

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), json_values, max_size=4))
def test_key_order_does_not_matter(value):
    assert digest_of("x", value) == digest_of("x", dict(reversed(value.items())))


@given(json_values, json_values)
def test_different_values_have_different_digests(a, b):
    assert (digest_of("x", a) == digest_of("x", b)) == (rfc8785.dumps(a) == rfc8785.dumps(b))


def test_domains_are_apart():
    assert digest_of("action", {}) != digest_of("artifact", {})


def test_bytes_and_files_agree_with_sha256sum(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_of_bytes(b"abc") == digest_of_file(path) == expected
