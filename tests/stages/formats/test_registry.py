from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import DeviceError, ModelError, RecipeError
from stages.formats.onnx.session import load_onnx
from stages.formats.registry import load_exported, model_digest, recognise, whole_model


def test_kinds_are_told_by_content_and_not_by_name(onnx_file, tmp_path):
    assert recognise(onnx_file).kind == "onnx-model"
    misnamed = tmp_path / "model.tflite"
    misnamed.write_bytes(onnx_file.read_bytes())
    assert recognise(misnamed).kind == "onnx-model"
    (tmp_path / "flat").write_bytes(b"\x1c\x00\x00\x00TFL3")
    assert recognise(tmp_path / "flat").kind == "tflite-model"


def test_every_shorter_onnx_file_is_noticed(onnx_file, tmp_path):
    """Where it is cut between two outermost fields the graph may be whole: then it is a model."""
    whole, cut, passed = onnx_file.read_bytes(), tmp_path / "cut", []
    for length in range(1, len(whole)):
        cut.write_bytes(whole[:length])
        try:
            passed.append(recognise(cut).kind and length)
        except (RecipeError, ModelError):
            continue
    assert len(passed) <= 2
    assert all(length > 0.9 * len(whole) for length in passed)


@pytest.mark.parametrize(
    "data", [b"PK\x03\x04 a zip", b"\x89HDF\r\n\x1a\n", b"name: demo\nseed: 7\n", b"{}", b"\x00" * 64]
)
def test_other_files_are_refused(data, tmp_path):
    (tmp_path / "other").write_bytes(data)
    with pytest.raises(RecipeError, match="neither onnx nor openvino nor tflite"):
        recognise(tmp_path / "other")


def test_random_bytes_are_no_model(tmp_path):
    generator = np.random.default_rng(0)
    for _ in range(200):
        (tmp_path / "noise").write_bytes(generator.bytes(200))
        with pytest.raises((RecipeError, ModelError)):
            recognise(tmp_path / "noise")


def test_an_empty_file_is_called_empty(tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(ModelError, match="empty"):
        recognise(tmp_path / "empty")


def test_files_named_by_digest_get_their_names_back_and_cost_nothing(
    make_external: Callable[..., Path], tmp_path: Path
) -> None:
    model = make_external()
    stored = {"model.onnx": tmp_path / "ab12", "model.onnx.data": tmp_path / "cd34"}
    for name, path in stored.items():
        path.write_bytes((model.parent / name).read_bytes())
    for _ in range(2):  # files of a killed run exist already
        found = whole_model("onnx-model", list(stored), stored.__getitem__, tmp_path / "whole")
        assert found == tmp_path / "whole" / "model.onnx"
        assert (tmp_path / "whole" / "model.onnx.data").samefile(stored["model.onnx.data"])
    x = np.ones((1, 64), np.float32)
    np.testing.assert_array_equal(load_onnx(found).run({"x": x})["y"], load_onnx(model).run({"x": x})["y"])


def test_without_hard_links_files_are_copied(
    make_external: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("this file system has no links")

    monkeypatch.setattr(os, "link", refuse)
    model = make_external()
    names = ["model.onnx", "model.onnx.data"]
    found = whole_model("onnx-model", names, lambda name: model.parent / name, tmp_path / "whole")
    assert sorted(path.name for path in found.parent.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert found.read_bytes() == model.read_bytes()


def test_the_digest_covers_the_data_and_that_of_one_file_is_its_own() -> None:
    own, data, other = ("sha256:" + digit * 64 for digit in "abc")
    assert model_digest(own, {}) == own
    found = {model_digest(own, beside) for beside in ({"x": data}, {"x": other}, {"y": data}, {"x": data, "y": data})}
    assert len(found | {own}) == 5


@pytest.mark.parametrize(("kind", "runtime"), [("tflite-model", "LiteRT"), ("onnx-model", "ONNX Runtime")])
def test_what_is_no_model_is_refused(kind: Any, runtime: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DeviceError, match=f"{runtime} can't load the file"):
        load_exported(kind, b"this is no model at all")
    assert capfd.readouterr() == ("", "")
