"""Test ONNX Runtime's kernels, and the layers of the Keras model in them."""

import pytest

from pipeline.errors import RecipeError
from stages.devices.profile import Origin, profile
from stages.devices.target import find_target
from stages.formats.onnx.convert import convert_onnx


def test_onnx_runtime_tells_of_its_own_kernels(onnx_file):
    found = profile(find_target("cpu"), onnx_file, "model")
    assert [(one.kind, one.layers) for one in found.operators] == [("Mul", ())]
    assert found.total > 0


def test_a_target_that_runs_nothing_small_is_refused(tflite_file):
    with pytest.raises(RecipeError, match="tflm can't go through small probes") as caught:
        profile(find_target("tflm"), tflite_file, "model")
    assert caught.value.where == "--target tflm"


@pytest.mark.parametrize("scheme", ["float32", "int8"])
def test_kernels_of_an_onnx_file_know_their_layers(scheme, tiny_xception, tiny_images, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(convert_onnx(tiny_xception, scheme, calibration=tiny_images))
    found = profile(find_target("cpu"), path, "model", Origin(tiny_xception, {"image": tiny_images[:1]}))
    heavy = [one for one in found.operators if one.kind in ("Conv", "QLinearConv", "Gemm", "QGemm")]
    assert [one.layers[0] for one in heavy] == ["stem", "separable", "separable", "head"]
    assert {"stem_bn", "separable_bn", "join", "pool"} <= {layer for one in found.operators for layer in one.layers}
    assert all(one.cost > 0 for one in heavy)
