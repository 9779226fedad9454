import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from stages.formats.probe import Probe
from stages.formats.probe_models import INPUT_SCALE, WEIGHT_SCALE, probe_weights
from stages.formats.tflite.probe_model import tflite_model

DENSE = Probe(kind="dense", inputs=30, outputs=10, height=3)
CONV = Probe(kind="conv", inputs=4, outputs=6, height=5, width=5, kernel=(3, 3), strides=(2, 2))
DEPTHWISE = Probe(kind="depthwise", inputs=9, outputs=9, height=7, width=6, kernel=(3, 3))


def opened(data):
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    return interpreter


def test_a_dense_layer_is_a_product_with_its_weights():
    kernel, bias = probe_weights(DENSE)
    x = np.random.default_rng(0).standard_normal((3, 30)).astype(np.float32)
    interpreter = opened(tflite_model(DENSE, "float32"))
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, np.maximum(x @ kernel.reshape(10, 30).T + bias, 0), atol=1e-5)


@pytest.mark.parametrize(("probe", "axis"), [(DENSE, 0), (CONV, 0), (DEPTHWISE, 3)])
def test_int8_has_a_scale_a_channel_along_the_axis_of_the_outputs(probe, axis):
    tensors = {one["name"]: one for one in opened(tflite_model(probe, "int8")).get_tensor_details()}
    kernel, bias = (tensors[name]["quantization_parameters"] for name in ("kernel", "bias"))
    np.testing.assert_array_equal(kernel["scales"], np.full(probe.outputs, WEIGHT_SCALE, np.float32))
    assert kernel["quantized_dimension"] == axis
    np.testing.assert_allclose(bias["scales"], WEIGHT_SCALE * INPUT_SCALE)
    assert [tensors[name]["dtype"] for name in ("input", "kernel", "bias")] == [np.int8, np.int8, np.int32]


def test_shapes_are_those_of_the_probe():
    interpreter = opened(tflite_model(CONV, "float32"))
    assert interpreter.get_input_details()[0]["shape"].tolist() == [1, 5, 5, 4]
    assert interpreter.get_output_details()[0]["shape"].tolist() == [1, 3, 3, 6]
