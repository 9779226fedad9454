"""Check what a target without a clock may report."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from stages.devices.counts import Counts


def test_outputs_are_told_apart_by_their_digests_in_the_model_s_order(make_measurement) -> None:
    outputs = tuple(make_measurement((1,), digest * 64).outputs[0] for digest in "ba")
    usual = {"target": "t", "runtime": "r", "metrics": {}, "main": None, "estimated": False}
    assert Counts(**usual, spread=0.0, outputs=outputs).output_digests() == ("b" * 64, "a" * 64)
    with pytest.raises(ValidationError, match="spread"):
        Counts(**usual, spread=-0.1)
