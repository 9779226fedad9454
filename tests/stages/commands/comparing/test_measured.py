from __future__ import annotations

import pytest

from pipeline.errors import DeviceError
from stages.commands.comparing.measured import check_rounds
from stages.devices.rounds import Round
from stages.devices.target import Sampling, measure

BRIEF = Sampling(seconds=0.005, min_iterations=3)


def test_rounds_of_two_devices_or_of_a_model_that_varies_are_no_comparison(onnx_file):
    one = measure("cpu", onnx_file, BRIEF, "x")
    other = one.model_copy(update={"cpu_model": "another processor"})
    wrong = one.model_copy(update={"outputs": (one.outputs[0].model_copy(update={"sha256": "0" * 64}),)})
    check_rounds([Round(index=0, first="baseline", baseline=one, candidate=one)], "x")
    with pytest.raises(DeviceError, match="different devices"):
        check_rounds([Round(index=0, first="baseline", baseline=one, candidate=other)], "x")
    rounds = [Round(index=i, first="baseline", baseline=one, candidate=c) for i, c in enumerate((one, wrong))]
    with pytest.raises(DeviceError, match="the candidate gave 2 different results"):
        check_rounds(rounds, "x")
