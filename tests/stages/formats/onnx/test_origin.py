import onnx
import pytest

from pipeline.errors import ModelError
from stages.formats.onnx.origin import keras_digest


def test_the_digest_is_that_in_the_file_s_properties(onnx_file, tmp_path):
    assert keras_digest(onnx_file) is None
    model = onnx.load(onnx_file)
    onnx.helper.set_model_props(model, {"scheme": "int8", "model": "sha256:abc"})
    path = tmp_path / "said"
    path.write_bytes(model.SerializeToString())
    assert keras_digest(path) == "sha256:abc"


def test_a_file_that_is_damaged_inside_is_told(onnx_file, tmp_path):
    path = tmp_path / "damaged"
    path.write_bytes(onnx_file.read_bytes()[:-3])
    with pytest.raises(ModelError, match="the ONNX file is damaged") as caught:
        keras_digest(path)
    assert caught.value.where == str(path)
