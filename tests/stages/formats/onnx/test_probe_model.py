import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from stages.formats.onnx.probe_model import onnx_model
from stages.formats.onnx.session import load_onnx
from stages.formats.probe import Probe
from stages.formats.probe_models import WEIGHT_SCALE, probe_weights

DENSE = Probe(kind="dense", inputs=30, outputs=10, height=3)
DEPTHWISE = Probe(kind="depthwise", inputs=9, outputs=9, height=7, width=6, kernel=(3, 3))


def test_a_dense_layer_is_a_product_with_its_weights():
    kernel, bias = probe_weights(DENSE)
    x = np.random.default_rng(0).standard_normal((3, 30)).astype(np.float32)
    found = load_onnx(onnx_model(DENSE, "float32")).run({"input": x})["output"]
    np.testing.assert_allclose(found, np.maximum(x @ kernel.reshape(10, 30).T + bias, 0), atol=1e-5)


@pytest.mark.parametrize("probe", [DENSE, DEPTHWISE])
def test_int8_has_a_scale_a_channel_and_weights_of_seven_bits(probe):
    model = onnx.load_from_string(onnx_model(probe, "int8"))
    onnx.checker.check_model(model)
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert (held["kernel_q"].dtype, held["bias_q"].dtype) == (np.int8, np.int32)
    assert 1 < np.abs(held["kernel_q"]).max() < 64
    np.testing.assert_array_equal(held["kernel_scale"], np.full(probe.outputs, WEIGHT_SCALE, np.float32))
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("DequantizeLinear") == 4
    assert ("Gemm" if probe is DENSE else "Conv") in kinds


def test_groups_and_strides_are_the_probe_s():
    node = next(n for n in onnx.load_from_string(onnx_model(DEPTHWISE, "float32")).graph.node if n.op_type == "Conv")
    settings = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    assert (settings["group"], settings["strides"], settings["kernel_shape"]) == (9, [1, 1], [3, 3])
