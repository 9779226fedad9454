from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import DeviceError
from stages.devices.target import device_fingerprint, find_target
from stages.prune.config import PruneConfig
from stages.prune.measured.fingerprint import fingerprint_of


def test_the_device_of_measure_on_is_identified():
    assert fingerprint_of(PruneConfig(), Path()) is None
    config = PruneConfig.model_validate({"latency": 0.5, "measure_on": {"target": "cpu"}})
    own = device_fingerprint(find_target("cpu", Path()))
    assert fingerprint_of(config, Path()) == {f"cpu.{name}": value for name, value in own.items()}


def test_a_device_that_does_not_give_the_measure_is_refused():
    config = PruneConfig.model_validate({"instructions": 0.5, "measure_on": {"target": "cpu"}})
    with pytest.raises(DeviceError, match="cpu gives no instructions") as caught:
        fingerprint_of(config, Path())
    assert caught.value.hint == "prune to latency on it"
