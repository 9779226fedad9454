"""Test files of one layer: what they compute, in both formats and schemes, compared with numpy or each other."""

import io
import os
import zipfile

import numpy as np
import pytest

from stages.formats.onnx.probe_model import onnx_model
from stages.formats.probe import Probe
from stages.formats.probe_models import INPUT_SCALE, OUTPUT_SCALE, probe_archive
from stages.formats.tflite.probe_model import tflite_model
from stages.keras.tensorflow import ENVIRONMENT

PROBES = {
    "conv": Probe(kind="conv", inputs=7, outputs=13, height=9, width=8, kernel=(3, 3), strides=(2, 2)),
    "grouped": Probe(kind="conv", inputs=8, outputs=12, height=5, width=5, kernel=(3, 3), groups=4),
    "depthwise": Probe(kind="depthwise", inputs=9, outputs=9, height=7, width=7, kernel=(3, 3)),
    "dense": Probe(kind="dense", inputs=30, outputs=10, height=3),
}


def in_litert(data, x):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(given["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(made["index"])


def in_onnxruntime(data, x):
    os.environ.update(ENVIRONMENT)  # what has to stand before ONNX Runtime's import
    import onnxruntime

    channels_first = x if x.ndim == 2 else x.transpose(0, 3, 1, 2)
    made = onnxruntime.InferenceSession(data).run(None, {"input": channels_first})[0]
    return made if made.ndim == 2 else made.transpose(0, 2, 3, 1)


def values(probe, seed=1):
    shape = (probe.height, probe.inputs) if probe.kind == "dense" else (1, probe.height, probe.width, probe.inputs)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("name", PROBES)
def test_both_runtimes_compute_the_same_layer_in_float32(name):
    probe = PROBES[name]
    tflite, onnx = (
        in_litert(tflite_model(probe, "float32"), values(probe)),
        in_onnxruntime(onnx_model(probe, "float32"), values(probe)),
    )
    assert tflite.shape == onnx.shape
    assert np.prod(tflite.shape) == probe.positions * probe.outputs
    np.testing.assert_allclose(tflite, onnx, atol=1e-5)
    assert tflite.max() > 0.1
    assert tflite.min() == 0  # the ReLU is there


@pytest.mark.parametrize("name", PROBES)
def test_int8_files_run_in_eight_bits(name):
    probe = PROBES[name]
    quantized = np.rint(values(probe) / INPUT_SCALE).astype(np.int8)
    made = in_litert(tflite_model(probe, "int8"), quantized)
    assert made.dtype == np.int8
    assert made.max() > made.min()
    steps = in_onnxruntime(onnx_model(probe, "int8"), values(probe)) / OUTPUT_SCALE
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    assert steps.max() > 0


def test_an_archive_holds_the_models_in_order_and_repeats():
    probes = list(PROBES.values())
    data = probe_archive(probes, "tflite", "int8")
    assert data == probe_archive(probes, "tflite", "int8")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert [archive.read(name) for name in archive.namelist()] == [tflite_model(p, "int8") for p in probes]
