import numpy as np
import pytest

from pipeline.errors import ModelError, RecipeError
from stages.formats.registry import recognise


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
