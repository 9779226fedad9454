"""Check what a new target is held against: two small networks, and their outputs on this machine."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from pipeline.errors import DeviceError
from pipeline.system.quiet import quiet
from stages.devices.kinds.qemu.check import _compare_outputs, _write_onnx, _write_tflite
from stages.devices.target import Sampling, find_target, measure


@pytest.mark.parametrize(("runtime", "write"), [("litert", _write_tflite), ("onnxruntime", _write_onnx)])
def test_a_target_that_computes_something_else_than_this_machine_is_refused(
    runtime: str, write, tmp_path: Path
) -> None:
    with quiet():
        write(tmp_path / "model")
    here = measure("cpu", tmp_path / "model", Sampling(seconds=0.0, min_iterations=1), "model")
    assert (here.runtime, here.outputs[0].dtype) == (runtime, {"litert": "int8", "onnxruntime": "int32"}[runtime])
    if runtime == "onnxruntime":  # hosts without VNNI add two products of bytes in 16 bits
        (weights,) = onnx.load(tmp_path / "model").graph.initializer
        assert 255 * 2 * int(abs(numpy_helper.to_array(weights).astype(int)).max()) <= 2**15
    target = find_target("cortex-a72")
    _compare_outputs(target, tmp_path / "model", here.output_digests(), runtime)
    with pytest.raises(DeviceError, match=f"{runtime} computes something else on cortex-a72 than on this machine"):
        _compare_outputs(target, tmp_path / "model", ("0" * 64,), runtime)
