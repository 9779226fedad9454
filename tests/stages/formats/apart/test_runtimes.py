"""Check that files in their runtimes, in the child, give what they give here, to the bit."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.contracts.events import ActionEvents, silent
from pipeline.errors import DeviceError, NativeEndError
from pipeline.records.artifacts import Kind
from stages.formats.apart import process as child_process
from stages.formats.apart.process import MEMORY_VARIABLE, end_child
from stages.formats.apart.runtimes import load_apart, tensors_apart
from stages.formats.onnx.convert import convert_onnx
from stages.formats.registry import file_tensors, load_exported
from stages.formats.tflite.convert import convert_tflite

FILES: tuple[tuple[Kind, str], ...] = (("tflite-model", "int8"), ("onnx-model", "int8"), ("onnx-model", "float32"))


@pytest.fixture(scope="module")
def files(tiny_xception: Any, tiny_images: Any) -> dict[tuple[Kind, str], bytes]:
    convert = {"tflite-model": convert_tflite, "onnx-model": convert_onnx}
    return {(kind, how): convert[kind](tiny_xception, how, calibration=tiny_images) for kind, how in FILES}


@pytest.mark.parametrize("pair", FILES)
def test_interface_outputs_and_tensors_are_those_of_this_process(
    files: Any, tiny_images: Any, pair: tuple[Kind, str]
) -> None:
    given = {"image": tiny_images[:5]}
    here, there = load_exported(pair[0], files[pair]), load_apart(pair[0], files[pair], 1, "trying it")
    assert (there.inputs, there.outputs) == (here.inputs, here.outputs)
    np.testing.assert_array_equal(there.run(given)["head"], here.run(given)["head"])
    sample = {"image": tiny_images[:1]}
    expected, found = file_tensors(pair[0], files[pair], sample), tensors_apart(pair[0], files[pair], sample, "trying")
    assert [(one.name, one.operator) for one in found] == [(one.name, one.operator) for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.values.dtype == other.values.dtype
        np.testing.assert_array_equal(one.values, other.values)


def test_a_new_child_loads_the_file_again(files: Any, tiny_images: Any) -> None:
    pair = FILES[0]
    loaded = load_apart(pair[0], files[pair], 1, "trying it")
    expected = loaded.run({"image": tiny_images})["head"]
    (child,) = child_process._children
    os.kill(child.pid, signal.SIGKILL)
    child._process.wait()
    np.testing.assert_array_equal(loaded.run({"image": tiny_images})["head"], expected)
    assert child_process._children[0].pid != child.pid


def test_what_the_runtime_refuses_is_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"this is no model at all")
    with pytest.raises(DeviceError, match="LiteRT can't load the file"):
        load_apart("tflite-model", tmp_path / "model", 1, "trying it")


def test_an_end_names_the_action_and_what_it_did(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    end_child()
    monkeypatch.setenv(MEMORY_VARIABLE, "1")  # in place of a file that crashes
    events = ActionEvents("verify:tflite/int8", silent)
    with pytest.raises(NativeEndError, match=r"^verifying tflite/int8: .* took 0\.\d GB") as caught:
        load_apart("tflite-model", files[FILES[0]], 1, "verifying tflite/int8", events)
    assert caught.value.where == "verify:tflite/int8"
