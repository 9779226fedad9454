from types import SimpleNamespace

import pytest

from pipeline.records.weight_types import narrow_share


@pytest.mark.parametrize(
    ("scheme", "weights", "share"),
    [
        ("int8", {"int8": 60, "uint8": 15, "float32": 25}, 0.75),
        ("float16", {"float32": 8}, 0.0),
        ("float32", {"float32": 8}, None),
        ("int8", {}, None),
    ],
)
def test_the_share_is_of_weights_in_the_scheme_s_types(scheme, weights, share):
    assert narrow_share(SimpleNamespace(scheme=scheme, weights=weights)) == share
